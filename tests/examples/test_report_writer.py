"""A model may word the summary, and nothing else: what it says is judged, recorded, and asked for no more than once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

import holdfast
from examples.report import agent, demo, steps, verify, writer
from examples.report.model import Answer, Brief, Prose
from holdfast.testing import Trial, simulate

KEY = "sk-secret-of-kelp"
GOOD = "Amount comes to 82, from 20 rows.\n\n<b>All</b> rows were used."
OWN = "The total of amount is 82, with 4.10 on average a row."


@dataclass
class Heard:
    """A request that came."""

    path: str
    headers: dict[str, str]
    body: dict[str, object]


@dataclass
class Scripted:
    """A server that speaks both protocols and answers from a script: a text, a status with headers, or raw bytes."""

    script: list[str | tuple[int, dict[str, str]] | bytes]
    url: str = ""
    heard: list[Heard] = field(default_factory=list)

    def answer(self, heard: Heard) -> tuple[int, dict[str, str], bytes]:
        """The next line of the script; the last one for ever."""
        self.heard.append(heard)
        line = self.script[min(len(self.heard), len(self.script)) - 1]
        if isinstance(line, tuple):
            return line[0], line[1], b'{"error": {"message": "the key was ' + KEY.encode() + b'"}}'
        if isinstance(line, bytes):
            return 200, {}, line
        if heard.path == "/v1/messages":
            said: dict[str, object] = {"content": [{"type": "thinking"}, {"type": "text", "text": line}]}
        else:
            said = {"choices": [{"message": {"role": "assistant", "content": line}}]}
        return 200, {}, json.dumps(said).encode()


@contextmanager
def serving(*script: str | tuple[int, dict[str, str]] | bytes) -> Iterator[Scripted]:
    scripted = Scripted(list(script))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, more, body = scripted.answer(Heard(self.path, headers, json.loads(content)))
            self.send_response(status)
            for name, value in {**more, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        scripted.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield scripted
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine has set."""
    for name in (
        "HOLDFAST_MODEL",
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As few columns as a report can have, for it is made many times."""
    path = tmp_path_factory.mktemp("source") / "sales.csv"
    path.write_text("amount\n" + "".join(f"{0.4 * n + 0.3:.1f}\n" for n in range(20)))
    return str(path)


def made(source: str, folder: Path, plan: str = "") -> Trial[object]:
    """One run in virtual time."""
    return simulate(agent.report, [source], Brief(measures=("amount",)), str(folder), plan=plan)


def named(monkeypatch: pytest.MonkeyPatch, server: Scripted, api: str = "anthropic") -> None:
    """Tell the agent of the model, as a person does."""
    monkeypatch.setenv("HOLDFAST_MODEL", f"{api}:kelp-1")
    monkeypatch.setenv(f"{api.upper()}_BASE_URL", server.url + ("" if api == "anthropic" else "/v1"))
    monkeypatch.setenv(f"{api.upper()}_API_KEY", KEY)


@pytest.fixture
def finished(source: str, tmp_path: Path) -> Path:
    """A report in its own words."""
    made(source, tmp_path / "job")
    return tmp_path / "job"


def summary_of(folder: Path) -> Prose:
    return verify.load(folder).summary


def section_of(folder: Path) -> str:
    text = (folder / "report.html").read_text()
    return text.partition('<section class="summary">')[2].partition("</section>")[0]


def test_without_a_model_nobody_is_asked_and_the_words_are_our_own(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(GOOD) as server:
        named(monkeypatch, server)
        monkeypatch.delenv("HOLDFAST_MODEL")  # a key alone is no order to use it
        made(source, tmp_path / "job")
        assert server.heard == []
    assert summary_of(tmp_path / "job") == Prose((OWN, "All rows that were read could be used."))
    assert OWN in section_of(tmp_path / "job") and "<small>" not in section_of(tmp_path / "job")


@pytest.mark.parametrize(
    ("api", "path", "header", "value"),
    [
        ("anthropic", "/v1/messages", "x-api-key", KEY),
        ("openai", "/v1/chat/completions", "authorization", f"Bearer {KEY}"),
    ],
)
def test_a_model_words_the_summary_and_sees_the_findings_alone(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: str, path: str, header: str, value: str
) -> None:
    with serving(GOOD) as server:
        named(monkeypatch, server, api)
        made(source, tmp_path / "job")
    (heard,) = server.heard
    assert (heard.path, heard.headers[header], heard.body["model"]) == (path, value, "kelp-1")
    assert heard.headers["idempotency-key"].startswith("hf-")
    material = json.dumps(heard.body["messages"])
    assert "The total of amount is 82" in material and str(tmp_path) not in material
    report = verify.load(tmp_path / "job")
    assert report.summary == Prose(tuple(GOOD.split("\n\n")), "kelp-1")
    assert "&lt;b&gt;All&lt;/b&gt;" in section_of(tmp_path / "job")
    assert "In the words of kelp-1." in section_of(tmp_path / "job")
    assert "byte for byte" not in (tmp_path / "job" / "report.html").read_text()
    assert all(proof.holds for proof in verify.proofs(tmp_path / "job", [source], None))


def test_words_with_a_figure_of_their_own_are_not_used_and_the_page_says_so(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving("Amount comes to 82, which is 12% more than <last> year.") as server:
        named(monkeypatch, server)
        made(source, tmp_path / "job")
        assert len(server.heard) == 1
    assert summary_of(tmp_path / "job").paragraphs[0] == OWN
    note = "The words of kelp-1 were not used: they name 12%, which the findings do not."
    assert f"<small>{note}</small>" in section_of(tmp_path / "job")


def test_a_429_is_waited_out_as_long_as_the_server_asks(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving((429, {"Retry-After": "1800"}), (529, {}), GOOD) as server:
        named(monkeypatch, server)
        trial = made(source, tmp_path / "job")
    assert timedelta(minutes=30) <= trial.took < timedelta(minutes=32)
    assert len(server.heard) == 3 and len({one.headers["idempotency-key"] for one in server.heard}) == 1
    assert summary_of(tmp_path / "job").model == "kelp-1"


@pytest.mark.parametrize(
    ("line", "tries"),
    [
        (b"<html>a proxy speaks</html>", 5),
        (b'{"content": "no list"}', 5),
        (b'{"content": []}', 5),
        ((500, {}), 5),
        ((401, {}), 1),
        ((302, {"Location": "http://127.0.0.1:9/"}), 1),  # where the key is not to go
    ],
)
def test_a_model_that_does_not_answer_costs_its_words_alone(
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: bytes | tuple[int, dict[str, str]],
    tries: int,
) -> None:
    with serving(line) as server:
        named(monkeypatch, server)
        trial = made(source, tmp_path / "job")
    assert len(server.heard) == tries and trial.run.state == "succeeded"
    assert summary_of(tmp_path / "job").paragraphs[0] == OWN
    assert "The model could not be asked" in section_of(tmp_path / "job")
    assert [step.status for step in trial.steps if step.name == "ask_for_words"][-1] == "failed"


def test_what_a_model_said_is_recorded_and_a_crash_changes_none_of_it(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model says something else each time it is asked; the page says what was recorded."""
    asked: dict[str, int] = {}
    answers = [f"Amount comes to 82.\n\nAnswer {mark}." for mark in "ab"]
    with serving(*answers) as server:
        named(monkeypatch, server)
        commits = made(source, tmp_path / "undisturbed").commits
        for plan in [f"{at}{side}" for at in range(commits - 3, commits) for side in "-+"]:
            server.heard.clear()
            trial = made(source, tmp_path / plan, plan)
            asked[plan] = len(server.heard)
            attempts = [step.attempt for step in trial.steps if step.name == "ask_for_words"]
            assert attempts == [asked[plan]] or attempts == [2], plan  # what the first attempt recorded stays
            assert len({one.headers["idempotency-key"] for one in server.heard}) == 1
            recorded = answers[asked[plan] - 1]
            assert "\n\n".join(summary_of(tmp_path / plan).paragraphs) == recorded, plan
            assert recorded[-9:] in section_of(tmp_path / plan)
    assert set(asked.values()) == {1, 2}, asked  # an answer that was not durable was nobody's


def test_the_key_is_written_nowhere(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serving((401, {})) as server:  # whose error repeats it
        named(monkeypatch, server)
        holdfast.run(agent.report, [source], None, "job", store=f"sqlite:///{tmp_path / 'x.db'}")
        assert server.heard[0].headers["x-api-key"] == KEY
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 5 and not [path for path in written if KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"HOLDFAST_MODEL": "kelp-1"}, "it is anthropic:NAME or openai:NAME"),
        ({"HOLDFAST_MODEL": "openai:"}, "it is anthropic:NAME or openai:NAME"),
        ({"HOLDFAST_MODEL": "openai:kelp-1"}, "needs OPENAI_API_KEY"),
        ({"HOLDFAST_MODEL": "openai:kelp-1", "OPENAI_BASE_URL": "file:///etc/passwd"}, "is http://HOST"),
        ({"HOLDFAST_MODEL": "openai:kelp-1", "OPENAI_BASE_URL": "http://a:b@kelp.example"}, "no name or password"),
        ({"HOLDFAST_MODEL": "openai:kelp-1", "OPENAI_API_KEY": "sk\n1"}, "holds what no key has$"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_asked_fails_the_run_at_its_beginning(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], says: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(holdfast.FatalError, match=says):
        steps.prepare([source], Brief(), str(tmp_path / "job"), 200, 64, "r")
    assert not (tmp_path / "job").exists()


KNOWN = (
    "€22.1m in all, exactly €22,101,225.34, in 196,470 rows between 2 Jan 2023 and 29 Dec 2024. −54% in the week of "
    "1 Apr 2024, from €70.7k to €32.6k, over 104 whole weeks; under 0.01%."
)


@pytest.mark.parametrize(
    "text",
    [
        "€22.1 million, or 22,101,225.34 euros, in 196470 rows.",
        "It fell by 54 percent from €70,700 to €32.6 thousand on April 1, 2024, for one region.",
        "From January 2, 2023 to 29th December 2024; in 2024; in Apr 2024; on 2024-04-01.",
        "Over 104 weeks, 54 per cent. Under 0.01%, that is.",
        "No figure at all.",
    ],
)
def test_figures_of_the_findings_may_be_written_in_any_way(text: str) -> None:
    assert writer.unknown_figures(text, KNOWN) == []


@pytest.mark.parametrize(
    ("text", "strangers"),
    [
        ("€22.1 billion and €22.1k", ["22.1 billion", "22.1k"]),
        ("54 rows, 104% and 22.10001m", ["54", "104%", "22.10001m"]),
        ("In 2022, on 3 Jan 2023, in March 2024", ["3 Jan 2023", "March 2024", "2022"]),
        ("29 weeks and 2 regions", ["29", "2"]),  # of dates no number is known
        ("half of it doubled, a third in forty-two", ["half", "doubled", "third", "forty", "two"]),
        ("½ of it, in Q3", ["3", "½"]),
        ("٥٤ of them, or 五", ["٥٤", "五"]),
        ("1e9 and 0x20", ["1", "9", "0", "20"]),
    ],
)
def test_any_other_figure_is_found(text: str, strangers: list[str]) -> None:
    assert sorted(writer.unknown_figures(text, KNOWN)) == sorted(strangers)


def test_what_is_no_summary_is_not_used(finished: Path) -> None:
    report = verify.load(finished)
    for text, why in {
        "word " * 400 + ".": "too long",
        ".\n\n" * 5: "too long",
        "Amount comes to 82 and then": "break off",
        "\n \n": "break off",
    }.items():
        prose = writer.judged(report, Answer("kelp-1", text))
        assert why in prose.note and prose.paragraphs == writer.default(report).paragraphs, text
    assert writer.judged(report, Answer("kelp-1", "All of 82 is  well.\n")).paragraphs == (
        "All of 82 is well.",
    )
    assert writer.unknown_figures("\n".join(writer.default(report).paragraphs), writer.facts(report)) == []


def test_verify_finds_a_figure_that_the_summary_made_up(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    assert list(verify.invented(text)) == []
    (fault,) = verify.invented(text.replace(OWN, f"{OWN} That is 47%."))
    assert fault == "47% stands in the summary alone"
    assert list(verify.invented("<section></section>")) == ["the page does not begin with a summary"]


def test_the_demo_compares_two_runs_but_for_a_model_s_words(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = demo.Stage(tmp_path / "one"), demo.Stage(tmp_path / "two")
    with serving("All is well.", "Nothing is amiss.") as server:
        named(monkeypatch, server)
        for stage in (first, second):
            made(source, stage.workspace)
    assert demo.hashes_of(first, second) == demo.hashes_of(second, second)
    report = verify.load(first.workspace)
    changed = replace(report, rows_read=report.rows_read + 1)
    (first.workspace / "report.json").write_bytes(msgspec.json.encode(changed))
    assert demo.hashes_of(first, second)[:2] != demo.hashes_of(second, second)[:2]
    monkeypatch.delenv("HOLDFAST_MODEL")  # then words are bytes like all others
    (first.workspace / "report.json").write_bytes(msgspec.json.encode(report))
    assert demo.hashes_of(first, second)[:2] != demo.hashes_of(second, second)[:2]
