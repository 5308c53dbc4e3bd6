"""The page in a browser: sorting, filter, slider, axes, curves; on a desktop and as wide as a phone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gan_lightning.commands.report import run
from tests.run_folders import noise, write_run

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not there")]
VALUES = [3.0, 10.0, 2.0, 1.5, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 11.0, 12.0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("bokeh")
    pytest.importorskip("optuna")
    root = tmp_path_factory.mktemp("browser")
    for index, value in enumerate(VALUES):
        name = "<b>bold</b>" if index == 0 else f"run_with_a_rather_long_name_{index:02}"
        write_run(root / "runs" / name, [20.0, value], 10.0**-index, index % 2, rows=50, picture=noise(seed=index))
    write_run(root / "runs" / "none", [], state="failed")
    assert run([f"runs={root / 'runs'}", f"output={root / 'report'}"]) == 0
    return (root / "report" / "report.html").as_uri()


def opened(browser: Any, address: str, width: int, height: int) -> tuple[Any, list[str]]:
    """The page once its plots are drawn, and what went wrong; nothing but the file itself is asked for."""
    page = browser.new_page(viewport={"width": width, "height": height})
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("request", lambda asked: wrong.append(asked.url) if not asked.url.startswith(("data:", "file:")) else None)
    page.goto(address)
    page.wait_for_function("window.documentReady === true")
    page.locator("#curves canvas:visible").first.wait_for()
    return page, wrong


def column(page: Any, number: int, table: str = "runs") -> list[str]:
    return page.eval_on_selector_all(
        f"#{table} tbody tr:not([hidden])", f"rows => rows.map(r => r.cells[{number}].innerText)"
    )


def lines(page: Any) -> list[str]:
    """The names of the curves that are drawn, those in front last."""
    return page.evaluate("Bokeh.documents[0].get_model_by_name('lines').data.name")


def test_sorting_by_click_and_by_key(browser: Any, address: str) -> None:
    page, wrong = opened(browser, address, 1400, 1000)
    assert [float(value) for value in column(page, 4)[:-1]] == sorted(VALUES)
    last = page.locator("#runs thead button", has_text="fid last")
    last.click()  # numbers as numbers: 9 before 10
    assert column(page, 4) == [f"{value:.4g}" for value in sorted(VALUES)] + [""]
    last.focus()
    page.keyboard.press("Enter")
    assert column(page, 4) == [f"{value:.4g}" for value in sorted(VALUES, reverse=True)] + [""]  # missing: last again
    assert page.locator("#runs th[aria-sort=descending]").inner_text().startswith("fid last")
    assert page.locator("#runs th[aria-sort=ascending]").count() == 0
    page.locator("#runs thead button", has_text="run").first.click()
    assert column(page, 2)[0] == "<b>bold</b>"
    assert wrong == []


def test_filter_slider_curves_and_seeds(browser: Any, address: str) -> None:
    page, wrong = opened(browser, address, 1400, 1000)
    assert len(lines(page)) == len(VALUES)
    page.fill("#filter", "NAME_03 finished")
    assert column(page, 2) == ["run_with_a_rather_long_name_03"]
    assert lines(page) == ["run_with_a_rather_long_name_03"]
    assert page.locator("figure[data-run]:visible").count() == 1
    page.fill("#filter", "")
    page.locator("button[data-show=none]").click()
    assert lines(page) == []
    assert page.locator("#cut").inner_text() == "No run is shown."
    page.locator("button[data-show=best]").click()
    assert len(lines(page)) == 10
    page.locator("#runs input[data-run='0']").uncheck()
    assert len(lines(page)) == 9
    page.locator("#runs button.name", has_text="_04").click()
    assert lines(page)[-1] == "run_with_a_rather_long_name_04"
    for wanted, said in (("0", "0 images"), ("1", "1,000 images, fid 20"), ("2", "2,000 images, fid 1.5")):
        page.fill("#stop", wanted)
        shown = page.locator("figure[data-run='0'] .frame:visible")
        assert shown.count() == 1
        assert shown.inner_text().strip() == said
    assert not page.is_checked("#log")  # its values are near one another
    end = "Bokeh.documents[0].get_model_by_name('curves_linear').x_range.end"
    assert page.evaluate(end) == pytest.approx(2000 * 1.02)
    page.select_option("#axis", "1")
    assert page.evaluate(end) == pytest.approx(20 * 1.02)
    page.select_option("#metric", label="D/loss")
    page.check("#log")
    assert page.evaluate("Bokeh.documents[0].get_model_by_name('curves_log').visible")
    assert page.evaluate("Bokeh.documents[0].get_model_by_name('curves_log').y_range.start") > 0
    assert wrong == []


def test_averaged_seeds_are_found_and_far_values_begin_logarithmic(browser: Any, tmp_path: Path) -> None:
    for index, value in enumerate([3.0, 4.0, 5.0, 400.0]):
        state = "pruned" if index == 3 else "finished"
        write_run(tmp_path / "runs" / f"named_{index}", [value], lr=1.0 + index // 2, seed=index, state=state)
    write_run(tmp_path / "runs" / "named_4", [6.0], lr=1.0, seed=4)
    assert run([f"runs={tmp_path / 'runs'}", f"output={tmp_path / 'report'}"]) == 0
    page, wrong = opened(browser, (tmp_path / "report" / "report.html").as_uri(), 1400, 1000)
    assert page.is_checked("#log")
    assert page.evaluate("Bokeh.documents[0].get_model_by_name('curves_log').visible")
    page.check("#average")
    for words in ("named_3", "PRUNED"):
        page.fill("#filter", words)
        assert column(page, 1, "groups") == ["named_2 and 1 more"]
    assert wrong == []
    still = browser.new_page(java_script_enabled=False)
    still.goto((tmp_path / "report" / "report.html").as_uri())
    assert "need JavaScript" in still.locator("noscript").inner_text()


@pytest.mark.parametrize(("width", "height"), [(1400, 1000), (390, 844)])
def test_no_sideways_scroll(browser: Any, address: str, width: int, height: int) -> None:
    page, wrong = opened(browser, address, width, height)
    for details in page.locator("details").all():
        details.evaluate("one => { one.open = true; }")
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('#runs-box').scrollWidth") >= page.evaluate(
        "document.querySelector('#runs-box').clientWidth"
    )
    small = page.eval_on_selector_all(
        "button, select, input[type=search], input[type=range]",
        "some => some.filter(b => b.offsetParent && b.getBoundingClientRect().height < 28).map(b => b.outerHTML)",
    )
    assert [one for one in small if "bk-" not in one] == []
    assert wrong == []
