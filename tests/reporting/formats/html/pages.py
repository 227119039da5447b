"""The HTML page read back: its elements, their texts and cells."""

from html.parser import HTMLParser

from reporting.formats.html.page import to_html
from reporting.tables.build_report import build_report

VOID = {"meta", "img", "input"}
HOSTILE = "kd <img src=x onerror=alert(1)> & \"two\" 'one' {{ 7*7 }} ünï→"


class Page(HTMLParser):
    """The elements of a page in order; `open` at the end is what was never closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, position in self.open:
            self.texts[position] = self.texts.get(position, "") + data

    def of(self, tag):
        """(attributes, text) of all elements of a kind."""
        return [(attrs, self.texts.get(i, "")) for i, (kind, attrs) in enumerate(self.elements) if kind == tag]

    def cells(self):
        return {text for tag in ("td", "th") for _, text in self.of(tag)}


def page_of(root, out=None, report=(), **options):
    """The page of the runs below a folder; `report` are arguments of build_report."""
    return Page(to_html(build_report([str(root)], **dict(report)), out, **options))
