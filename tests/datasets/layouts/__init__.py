"""Writers of published dataset layouts from synthetic exams, with faults injected where a test asks for them.

Each module has `write(folder, exams, rng, with_faults)`, which returns the injected faults. It may also have
`is_usable(exam)`, whether the layout can hold an exam, and `case_name(number)`, the name that the importer gives to
exam `number`, counted from 0.
"""
