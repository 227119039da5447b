"""From folders of runs to a comparison: records/ reads and selects them, tables/ compares them, formats/ prints."""
