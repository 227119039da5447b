"""Tables as CSV in which no cell is a formula: spreadsheets run what begins with =, and names come from strangers."""

import pandas as pd

# What Excel, LibreOffice and Google Sheets take as the beginning of a formula, the wide forms in East Asian versions.
FORMULA = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")
SHIELD = "'"  # before a text, by which a spreadsheet knows it as one


def csv_of(table: pd.DataFrame) -> str:
    """The table as CSV without its index; numbers stay numbers, and a text that begins as a formula gets a SHIELD."""
    plain = table.copy()
    for position, kind in enumerate(table.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            plain.isetitem(position, [_defused(value) for value in table.iloc[:, position]])
    plain.columns = pd.Index(map(_defused, table.columns))
    return plain.to_csv(index=False, lineterminator="\n")


def _defused(value: object) -> object:
    """A value as a spreadsheet shows it; lists of numbers, separated by semicolons, stay as they are."""
    if not isinstance(value, str):
        return value
    value = value.replace("\r", r"\r")  # alone it is not quoted, and would begin a row of its own
    if not value.lstrip(" ").startswith(FORMULA):
        return value
    return value if all(map(_is_number, value.split(";"))) else SHIELD + value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return not text.strip().lstrip("+-").isalpha()  # "-inf" and "+nan" are names to a spreadsheet
