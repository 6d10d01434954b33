"""A scripted module of 3D Slicer: the vertebrae and discs of a lumbar MRI, named, without a server.

The core of lumbarseg is installed into Slicer's own Python and runs as a program beside Slicer; what it answers is
loaded as a segmentation with names, colours and codes. All that needs no Slicer lies in LumbarSegLib/engine.py.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

import ctk
import qt
import vtk
from LumbarSegLib import engine
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

import slicer


class LumbarSeg(ScriptedLoadableModule):
    """The entry in Slicer's list of modules."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "LumbarSeg"
        parent.categories = ["Segmentation"]
        parent.dependencies = []
        parent.contributors = ["lumbarseg"]
        parent.helpText = "Names the vertebrae and discs of a lumbar MRI on this computer. Not a medical device."
        parent.acknowledgementText = "The shipped model was trained on synthetic exams and on SPIDER (CC BY 4.0)."


class LumbarSegWidget(ScriptedLoadableModuleWidget):
    """The panel: what to install, which volume, what is known of it, and the answer."""

    def setup(self):
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = LumbarSegLogic(self.say)
        self.working = False
        self.stopped = False
        self._install_panel()
        self._segment_panel()
        self.output = qt.QPlainTextEdit()
        self.output.readOnly = True
        self.layout.addWidget(self.output)
        self.layout.addStretch(1)
        self.say(self.logic.state())

    def _panel(self, title):
        box = ctk.ctkCollapsibleButton()
        box.text = title
        self.layout.addWidget(box)
        return box, qt.QFormLayout(box)

    def _install_panel(self):
        box, form = self._panel("Install")
        box.collapsed = self.logic.installed()
        self.source = ctk.ctkPathLineEdit()
        self.source.toolTip = "A wheel of lumbarseg; empty: the sources in which this module lies"
        form.addRow("Wheel:", self.source)
        self.install_button = qt.QPushButton("Install lumbarseg into Slicer")
        self.install_button.clicked.connect(self.on_install)
        form.addRow(self.install_button)

    def _segment_panel(self):
        _, form = self._panel("Segment")
        self.volume = slicer.qMRMLNodeComboBox()
        self.volume.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.volume.addEnabled = self.volume.removeEnabled = False
        self.volume.setMRMLScene(slicer.mrmlScene)
        form.addRow("Volume:", self.volume)
        self.lowest = qt.QComboBox()
        self.lowest.addItems(list(engine.LOWEST))
        form.addRow("Lowest whole vertebra:", self.lowest)
        self.parts = qt.QComboBox()
        self.parts.addItems(list(engine.PARTS))
        form.addRow("Posterior elements:", self.parts)
        self.model = ctk.ctkPathLineEdit()
        self.model.nameFilters = ["*.onnx"]
        form.addRow("Model (empty: shipped):", self.model)
        self.segment_button = qt.QPushButton("Segment")
        self.segment_button.clicked.connect(self.on_segment)
        form.addRow(self.segment_button)

    def say(self, text):
        """A line for the user, while the program runs."""
        self.output.appendPlainText(text)
        slicer.app.processEvents()

    def on_install(self):
        """Install the core."""
        with slicer.util.tryWithErrorDisplay("lumbarseg could not be installed", waitCursor=True):
            self.logic.install(self.source.currentPath)
            self.say(self.logic.state())

    def on_segment(self):
        """Answer the chosen volume; a second press stops it."""
        if self.working:
            self.stopped = True
            return
        self.working, self.stopped = True, False
        self.segment_button.text = "Stop"
        try:
            with slicer.util.tryWithErrorDisplay("no answer", waitCursor=False):
                wish = engine.Wish(self.lowest.currentText, self.parts.currentText, self.model.currentPath)
                self.logic.segment(self.volume.currentNode(), wish, lambda: self.stopped)
        finally:
            self.working = False
            self.segment_button.text = "Segment"


class LumbarSegLogic(ScriptedLoadableModuleLogic):
    """What the panel does, usable from a script: LumbarSegLogic().segment(volume_node)."""

    def __init__(self, tell=print):
        ScriptedLoadableModuleLogic.__init__(self)
        self.tell = tell

    def installed(self):
        """Whether Slicer's Python has the core."""
        importlib.invalidate_caches()
        return importlib.util.find_spec("lumbarseg") is not None

    def state(self):
        """What there is, in one line."""
        if reason := engine.too_old(sys.version_info):
            return reason
        return "lumbarseg is installed" if self.installed() else "lumbarseg is not installed in Slicer yet"

    def install(self, chosen=""):
        """Put the core and what it needs into Slicer's Python; chosen: a wheel or a folder, "" for the sources."""
        if reason := engine.too_old(sys.version_info):
            raise engine.EngineError(reason)
        slicer.util.pip_install([engine.source(chosen, Path(__file__))])

    def program(self):
        """How the core is started."""
        python = shutil.which("PythonSlicer")
        if not python:
            raise engine.EngineError("PythonSlicer was not found; start Slicer by its own launcher")
        if not self.installed():
            raise engine.EngineError(self.state() + ": press Install first")
        return [python, "-m", "lumbarseg"]

    def segment(self, volume, wish=None, cancelled=lambda: False):
        """Answer a volume node; gives the segmentation node and the table node, both shown."""
        if volume is None or volume.GetImageData() is None:
            raise engine.EngineError("choose a volume with an image in it")
        folder = Path(tempfile.mkdtemp(dir=slicer.app.temporaryPath))
        try:
            self._write(volume, engine.exam(folder))
            words = engine.command(self.program(), folder, wish or engine.Wish())
            process = slicer.util.launchConsoleProcess(words)
            engine.follow(process, self.tell, cancelled)
            found = engine.answer(folder)
            segmentation = self._load(found, volume)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return segmentation, self._table(found, volume.GetName())

    def _write(self, volume, path):
        """The volume as a file, its own storage left as it is."""
        storage = slicer.mrmlScene.CreateNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
        storage.SetFileName(str(path))
        storage.UseCompressionOff()
        written = storage.WriteData(volume)
        storage.UnRegister(None)
        if not written:
            raise engine.EngineError(f"{volume.GetName()}: Slicer could not write it")

    def _load(self, found, volume):
        """The segmentation of an answer, on the volume's grid and under its transform."""
        node = slicer.util.loadSegmentation(str(found.segmentation))
        node.SetName(f"{volume.GetName()} spine")
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        node.CreateClosedSurfaceRepresentation()
        storage = node.GetStorageNode()
        if storage:  # the file it came from is a temporary one
            node.SetAndObserveStorageNodeID(None)
            slicer.mrmlScene.RemoveNode(storage)
        return node

    def _table(self, found, name):
        """The measurements as a table, shown beside the views."""
        table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", f"{name} spine")
        table.SetUseColumnTitleAsColumnHeader(True)
        for number, title in enumerate(engine.COLUMNS):
            column = vtk.vtkStringArray()
            column.SetName(title)
            for row in found.rows:
                column.InsertNextValue(row[number])
            table.AddColumn(column)
        selection = slicer.app.applicationLogic().GetSelectionNode()
        selection.SetActiveTableID(table.GetID())
        slicer.app.applicationLogic().PropagateTableSelection()
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView)
        self.tell(found.summary)
        for warning in found.warnings:
            self.tell(f"look at: {warning}")
        return table


class LumbarSegTest(ScriptedLoadableModuleTest):
    """The module's own test, to be run inside Slicer with the core installed."""

    def setUp(self):
        """An empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Slicer calls this."""
        self.setUp()
        self.test_synthetic_exam()

    def test_synthetic_exam(self):
        """A synthetic exam has L1 to L5 and the discs between them, with codes."""
        logic = LumbarSegLogic()
        folder = tempfile.mkdtemp(dir=slicer.app.temporaryPath)
        process = slicer.util.launchConsoleProcess([*logic.program(), "demo", "-o", folder])
        engine.follow(process, print)
        volume = slicer.util.loadVolume(str(Path(folder) / "demo.nii.gz"))
        segmentation, table = logic.segment(volume)
        found = segmentation.GetSegmentation()
        names = {found.GetNthSegment(n).GetName() for n in range(found.GetNumberOfSegments())}
        self.assertLessEqual({"L1", "L2", "L3", "L4", "L5", "L1-L2", "L4-L5", "sacrum"}, names)
        entry = vtk.mutable("")
        found.GetSegment(found.GetSegmentIdBySegmentName("L4")).GetTag("TerminologyEntry", entry)
        self.assertIn("SCT^11994002", str(entry))
        self.assertGreater(table.GetNumberOfRows(), 9)
        self.delayDisplay("Test passed")
