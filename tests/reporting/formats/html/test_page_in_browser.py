"""The HTML page of compare.py in a real browser: sorting, switching lines, narrow windows, dark mode, no network."""

import itertools
import json
import shutil

import pytest

import compare
from tests.helpers import ROOT
from tests.reporting.fake_runs import write_run, write_suite
from tests.reporting.formats.html.analysis_files import write_analysis
from tests.reporting.formats.html.pages import HOSTILE

webdriver = pytest.importorskip("selenium.webdriver", reason="`pip install -r requirements-dev.txt` brings selenium")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.runs,
    pytest.mark.skipif(
        not (BROWSER and DRIVER), reason="no browser here; on Debian: apt-get install chromium chromium-driver"
    ),
]
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
ENTER, SPACE = "\ue007", " "

# WCAG 2's contrast of every letter that is shown with what lies behind it; those below 4.5.
POOR_CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const luminance = (colour) => {
  const [r, g, b] = colour.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = rgba(getComputedStyle(e).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return [255, 255, 255, 255];
};
const poor = [];
let seen = 0;
for (const element of document.body.querySelectorAll("*")) {
  const written = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!written || ["SCRIPT", "title", "desc"].includes(element.tagName) || !element.getClientRects().length) continue;
  const style = getComputedStyle(element);
  const colour = rgba(element.closest("svg") ? style.fill : style.color);
  const [a, b] = [luminance(colour), luminance(behind(element))];
  seen += 1;
  if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5) poor.push(element.outerHTML.slice(0, 120));
}
return [seen, poor];
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of real records and of folders that are half finished, broken, foreign, copied, and badly named."""
    root = tmp_path_factory.mktemp("site")
    for records in ("cifar100_short", "std_ablation"):
        shutil.copytree(ROOT / "results" / records, root / "runs" / records)
    write_suite(root / "runs/made")
    shutil.copytree(root / "runs/made/crd", root / "runs/copy of crd")
    write_run(root / "runs", "second", 58.0, mtime=1)
    write_run(root / "runs", "half", result=None)
    write_run(root / "runs", "bad <b>&\"'", result={"last": None})
    write_run(root / "runs", "hostile", 57.0, label=HOSTILE, method="hint")
    (root / "runs/foreign").mkdir()
    (root / "runs/foreign/config.json").write_text("{}")
    analysis = write_analysis(root / "analysis")
    out = root / "out/report.html"
    out.parent.mkdir()
    assert compare.main([str(root / "runs"), "--analysis", str(analysis), "--out", str(out)]) == 0
    return out


@pytest.fixture
def opened(browser, page):
    return show(browser, page)


def show(browser, page, width=1200, scheme="light", media="screen"):
    """The page in a window of its own size, with logs that begin here."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(page.as_uri())
    return browser


def complaints(browser):
    """What the console has said, as (level, text)."""
    return [(entry["level"], entry["message"]) for entry in browser.get_log("browser")]


def requested(browser):
    """The addresses that were asked for since the page was opened."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def table_of(browser, caption):
    tables = browser.find_elements("tag name", "table")
    (found,) = (table for table in tables if caption in table.get_property("caption").get_attribute("textContent"))
    return found


def column(browser, table, number):
    script = "return [...arguments[0].tBodies[0].rows].map((row) => row.cells[arguments[1]].textContent)"
    return browser.execute_script(script, table, number)


def directions(table):
    return [head.get_attribute("aria-sort") for head in table.find_elements("css selector", "thead th")]


def test_the_page_is_quiet_and_asks_for_nothing(opened, page):
    opened.find_element("css selector", "thead button").click()
    opened.find_element("css selector", "input").click()
    assert complaints(opened) == []
    addresses = requested(opened)
    assert addresses[0] == page.as_uri()
    assert all(address.startswith("data:image/svg+xml") for address in addresses[1:])
    assert opened.execute_script("return document.images.length && [...document.images].every((i) => i.naturalWidth)")


def test_the_logs_would_show_a_request_and_a_complaint(browser, tmp_path):
    (tmp_path / "loud.html").write_text("<img src='http://127.0.0.1:9/x.png'><script>nothing()</script>")
    show(browser, tmp_path / "loud.html")
    assert "http://127.0.0.1:9/x.png" in requested(browser)
    assert any("nothing is not defined" in text for _, text in complaints(browser))


def test_a_script_that_got_into_the_page_would_not_run(opened):
    opened.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s)"
    )
    assert opened.execute_script("return window.ran") is None
    assert any("Content Security Policy" in text for _, text in complaints(opened))


def test_a_click_sorts_by_the_number_with_what_is_missing_last(opened):
    table = opened.find_element("tag name", "table")
    heads = [head.text.split()[0] for head in table.find_elements("css selector", "thead th")]
    gain, method = heads.index("gain"), heads.index("method")
    before = column(opened, table, gain)
    assert "" in before
    assert directions(table) == ["none"] * len(heads)
    button = table.find_elements("css selector", "thead button")[gain]
    for direction, sign in (("descending", -1), ("ascending", 1)):
        button.click()
        assert directions(table)[gain] == direction
        assert [d for d in directions(table) if d != "none"] == [direction]
        found = column(opened, table, gain)
        figures = [float(text.removesuffix(" †")) for text in found if text]
        assert figures == sorted(figures, key=lambda value: sign * value)
        assert found[len(figures) :] == [""] * before.count("")
        assert sorted(found) == sorted(before)
    table.find_elements("css selector", "thead button")[method].click()
    assert directions(table)[gain] == "none"
    names = column(opened, table, method)
    assert names == sorted(names, key=str.lower)


def test_the_keyboard_sorts_too(opened):
    table = table_of(opened, "Finished runs")
    buttons = table.find_elements("css selector", "thead button")
    last = [button.text.rstrip(" ↕") for button in buttons].index("last top-1")
    assert opened.execute_script("return arguments[0].tabIndex", buttons[last]) == 0
    before = column(opened, table, last)
    for key, direction in ((ENTER, "descending"), (SPACE, "ascending")):
        buttons[last].send_keys(key)
        assert directions(table)[last] == direction
        found = [float(text) for text in column(opened, table, last)]
        assert found == sorted(map(float, before), reverse=direction == "descending")


def test_large_small_and_negative_numbers_sort_as_numbers(opened):
    script = """
        const table = document.createElement("table");
        table.innerHTML = "<thead><tr><th aria-sort='none' data-kind='number'><button></button></th></tr></thead>"
            + "<tbody>" + arguments[0].map((key) => `<tr><td data-key="${key}"></td></tr>`).join("") + "</tbody>";
        order(table, 0);
        return [...table.tBodies[0].rows].map((row) => row.cells[0].dataset.key);
    """
    assert opened.execute_script(script, ["9.0", "", "-3.0", "1143780.0", "1e-09", "-2.0"]) == [
        "1143780.0", "9.0", "1e-09", "-2.0", "-3.0", "",
    ]  # fmt: skip


def test_a_curve_goes_and_comes_back(opened):
    box, other = opened.find_elements("css selector", "input[data-line]")[:2]
    lines = [opened.find_element("id", each.get_attribute("data-line")) for each in (box, other)]
    assert [line.is_displayed() for line in lines] == [True, True]
    box.click()
    assert [line.is_displayed() for line in lines] == [False, True]
    box.send_keys(SPACE)
    assert [line.is_displayed() for line in lines] == [True, True]
    opened.find_element("css selector", "button[data-to=off]").click()
    hidden = opened.find_element("css selector", "fieldset:has(button)").find_elements("tag name", "input")
    assert not any(each.is_selected() for each in hidden)
    assert not opened.find_element("id", hidden[0].get_attribute("data-line")).is_displayed()


def test_links_open_the_records(opened, page):
    link = opened.find_element("link text", "config")
    opened.get(link.get_attribute("href"))
    assert "protocol_id" in opened.find_element("tag name", "body").text
    assert complaints(opened) == []


@pytest.mark.parametrize(("width", "scheme"), list(itertools.product((360, 1200), ("light", "dark"))))
def test_it_fits_the_window_and_can_be_read_in_both_modes(browser, page, width, scheme):
    show(browser, page, width, scheme)
    browser.execute_script("document.querySelector('details').open = true")
    wide, inner = browser.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= inner <= width
    scrolled = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth).length"
    )
    assert scrolled  # the widest table scrolls within its box
    seen, poor = browser.execute_script(POOR_CONTRAST)
    assert seen > 100
    assert poor == []
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


def test_on_paper_it_is_light_and_without_controls(browser, page):
    show(browser, page, 700, "dark", "print")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not browser.find_element("tag name", "nav").is_displayed()
    assert not browser.find_element("css selector", "input").is_displayed()
    assert browser.find_element("tag name", "table").is_displayed()
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 700  # paper does not scroll
