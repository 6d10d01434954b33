"""Scripted module of 3D Slicer: segment the vertebrae and discs of a lumbar MRI by name, without a server.

The core of lumbarseg is installed into Slicer's Python and runs as a separate process; its result is loaded as a
segmentation with names, colours and codes. What does not need Slicer is in LumbarSegLib/command_line.py.
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
from LumbarSegLib import command_line
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

import slicer


class LumbarSeg(ScriptedLoadableModule):
    """Entry in Slicer's list of modules."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "LumbarSeg"
        parent.categories = ["Segmentation"]
        parent.dependencies = []
        parent.contributors = ["lumbarseg"]
        parent.helpText = "Segments the vertebrae and discs of a lumbar MRI by name. Not a medical device."
        parent.acknowledgementText = "The shipped model was trained on synthetic exams and on SPIDER (CC BY 4.0)."


class LumbarSegWidget(ScriptedLoadableModuleWidget):
    """Panel to install lumbarseg, to choose a volume and options, and to show the output."""

    def setup(self):
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = LumbarSegLogic(self.log)
        self.is_running = False
        self.is_cancelled = False
        self._add_install_panel()
        self._add_segment_panel()
        self.output = qt.QPlainTextEdit()
        self.output.readOnly = True
        self.layout.addWidget(self.output)
        self.layout.addStretch(1)
        self.log(self.logic.status())

    def _panel(self, title):
        box = ctk.ctkCollapsibleButton()
        box.text = title
        self.layout.addWidget(box)
        return box, qt.QFormLayout(box)

    def _add_install_panel(self):
        box, form = self._panel("Install")
        box.collapsed = self.logic.is_installed()
        self.source = ctk.ctkPathLineEdit()
        self.source.toolTip = "A wheel of lumbarseg; empty: the source tree that contains this module"
        form.addRow("Wheel:", self.source)
        self.install_button = qt.QPushButton("Install lumbarseg into Slicer")
        self.install_button.clicked.connect(self.on_install)
        form.addRow(self.install_button)

    def _add_segment_panel(self):
        _, form = self._panel("Segment")
        self.volume = slicer.qMRMLNodeComboBox()
        self.volume.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.volume.addEnabled = self.volume.removeEnabled = False
        self.volume.setMRMLScene(slicer.mrmlScene)
        form.addRow("Volume:", self.volume)
        self.lowest = qt.QComboBox()
        self.lowest.addItems(list(command_line.LOWEST_LEVELS))
        form.addRow("Lowest complete vertebra:", self.lowest)
        self.posterior_elements = qt.QComboBox()
        self.posterior_elements.addItems(list(command_line.POSTERIOR_ELEMENTS))
        form.addRow("Posterior elements:", self.posterior_elements)
        self.model = ctk.ctkPathLineEdit()
        self.model.nameFilters = ["*.onnx"]
        form.addRow("Model (empty: bundled):", self.model)
        self.segment_button = qt.QPushButton("Segment")
        self.segment_button.clicked.connect(self.on_segment)
        form.addRow(self.segment_button)

    def log(self, text):
        """Show a line in the panel, also while the program runs."""
        self.output.appendPlainText(text)
        slicer.app.processEvents()

    def on_install(self):
        """Install lumbarseg."""
        with slicer.util.tryWithErrorDisplay("lumbarseg could not be installed", waitCursor=True):
            self.logic.install(self.source.currentPath)
            self.log(self.logic.status())

    def on_segment(self):
        """Segment the chosen volume; a second press stops the program."""
        if self.is_running:
            self.is_cancelled = True
            return
        self.is_running, self.is_cancelled = True, False
        self.segment_button.text = "Stop"
        try:
            with slicer.util.tryWithErrorDisplay("no segmentation", waitCursor=False):
                options = command_line.Options(
                    self.lowest.currentText, self.posterior_elements.currentText, self.model.currentPath
                )
                self.logic.segment(self.volume.currentNode(), options, lambda: self.is_cancelled)
        finally:
            self.is_running = False
            self.segment_button.text = "Segment"


class LumbarSegLogic(ScriptedLoadableModuleLogic):
    """The functions of the panel, also for scripts: LumbarSegLogic().segment(volume_node)."""

    def __init__(self, log=print):
        ScriptedLoadableModuleLogic.__init__(self)
        self.log = log

    def is_installed(self):
        """Return whether Slicer's Python has lumbarseg."""
        importlib.invalidate_caches()
        return importlib.util.find_spec("lumbarseg") is not None

    def status(self):
        """Return in one line whether lumbarseg can be used."""
        if reason := command_line.python_version_problem(sys.version_info):
            return reason
        return "lumbarseg is installed" if self.is_installed() else "lumbarseg is not installed in Slicer yet"

    def install(self, path=""):
        """Install lumbarseg into Slicer's Python; path: a wheel or folder, "" for the source tree."""
        if reason := command_line.python_version_problem(sys.version_info):
            raise command_line.CommandError(reason)
        slicer.util.pip_install([command_line.package_source(path, Path(__file__))])

    def program(self):
        """Return the command that starts lumbarseg."""
        python = shutil.which("PythonSlicer")
        if not python:
            raise command_line.CommandError("PythonSlicer was not found; start Slicer with its launcher")
        if not self.is_installed():
            raise command_line.CommandError(self.status() + ": press Install first")
        return [python, "-m", "lumbarseg"]

    def segment(self, volume, options=None, is_cancelled=lambda: False):
        """Segment a volume node and show the result; return the segmentation node and the table node."""
        if volume is None or volume.GetImageData() is None:
            raise command_line.CommandError("choose a volume with an image in it")
        folder = Path(tempfile.mkdtemp(dir=slicer.app.temporaryPath))
        try:
            self._write_volume(volume, command_line.exam_path(folder))
            command = command_line.build_command(self.program(), folder, options or command_line.Options())
            process = slicer.util.launchConsoleProcess(command)
            command_line.wait_for_process(process, self.log, is_cancelled)
            result = command_line.read_result(folder)
            segmentation = self._load_segmentation(result, volume)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return segmentation, self._show_table(result, volume.GetName())

    def _write_volume(self, volume, path):
        """Write the volume to a file; its own storage node stays as it is."""
        storage = slicer.mrmlScene.CreateNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
        storage.SetFileName(str(path))
        storage.UseCompressionOff()
        success = storage.WriteData(volume)
        storage.UnRegister(None)
        if not success:
            raise command_line.CommandError(f"{volume.GetName()}: Slicer could not write it")

    def _load_segmentation(self, result, volume):
        """Load the segmentation on the volume's grid and under its transform."""
        node = slicer.util.loadSegmentation(str(result.segmentation))
        node.SetName(f"{volume.GetName()} spine")
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        node.CreateClosedSurfaceRepresentation()
        storage = node.GetStorageNode()
        if storage:  # its file is temporary
            node.SetAndObserveStorageNodeID(None)
            slicer.mrmlScene.RemoveNode(storage)
        return node

    def _show_table(self, result, name):
        """Show the measurements as a table beside the views."""
        table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", f"{name} spine")
        table.SetUseColumnTitleAsColumnHeader(True)
        for number, title in enumerate(command_line.COLUMNS):
            column = vtk.vtkStringArray()
            column.SetName(title)
            for row in result.rows:
                column.InsertNextValue(row[number])
            table.AddColumn(column)
        selection = slicer.app.applicationLogic().GetSelectionNode()
        selection.SetActiveTableID(table.GetID())
        slicer.app.applicationLogic().PropagateTableSelection()
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView)
        self.log(result.summary)
        for warning in result.warnings:
            self.log(f"review: {warning}")
        return table


class LumbarSegTest(ScriptedLoadableModuleTest):
    """Test of the module, to be run inside Slicer with lumbarseg installed."""

    def setUp(self):
        """Clear the scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run all tests; called by Slicer."""
        self.setUp()
        self.test_synthetic_exam()

    def test_synthetic_exam(self):
        """Segment a synthetic exam: L1 to L5 and the discs between them, with codes."""
        logic = LumbarSegLogic()
        folder = tempfile.mkdtemp(dir=slicer.app.temporaryPath)
        process = slicer.util.launchConsoleProcess([*logic.program(), "demo", "-o", folder])
        command_line.wait_for_process(process, print)
        volume = slicer.util.loadVolume(str(Path(folder) / "demo.nii.gz"))
        segmentation, table = logic.segment(volume)
        segments = segmentation.GetSegmentation()
        names = {segments.GetNthSegment(n).GetName() for n in range(segments.GetNumberOfSegments())}
        self.assertLessEqual({"L1", "L2", "L3", "L4", "L5", "L1-L2", "L4-L5", "sacrum"}, names)
        entry = vtk.mutable("")
        segments.GetSegment(segments.GetSegmentIdBySegmentName("L4")).GetTag("TerminologyEntry", entry)
        self.assertIn("SCT^11994002", str(entry))
        self.assertGreater(table.GetNumberOfRows(), 9)
        self.delayDisplay("Test passed")
