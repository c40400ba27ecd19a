"""Runs and what they started, in the shell."""

from __future__ import annotations

from tests.cli.shell import Shell


def test_a_run_executes_what_it_starts_and_lists_show_it_as_a_tree(shell: Shell) -> None:
    assert shell("run", "agents.py:chorus", "--id", "r").json == ["hello sea", "hello kelp"]
    shell("start", "agents.py:hello", "--id", "alone")

    listed = shell("ls", "--tree", "--json").json
    parents = [(one["agent"], one["parent"]) for one in listed]
    again = listed[3]["id"]
    assert parents == [
        ("hello", None),
        ("chorus", None),
        ("hello", "r"),
        ("once_more", "r"),
        ("hello", again),
    ]
    shown = shell("show", "r", "--json").json
    assert [(child["agent"], child["state"]) for child in shown["children"]] == [
        ("hello", "succeeded"),
        ("once_more", "succeeded"),
    ]
    tree = shell("ls", "--tree").out.splitlines()
    assert [line.partition("r")[0] for line in tree[2:]] == ["", "├─ ", "└─ ", "   └─ "]
    page = shell("show", "r").out
    assert "children" in page
    assert f"└─ {listed[4]['id']}" in page
    assert "parent    r" in shell("show", again).out
    assert [one["parent"] for one in shell("ls", "--json").json] == [None, again, "r", "r", None]


def test_a_run_that_waits_for_a_child_names_it(shell: Shell) -> None:
    (child,) = shell("run", "agents.py:chorus", "--input", '{"left": true}', "--id", "r").json
    assert shell("show", child, "--json").json["state"] == "queued"
    assert shell("show", "r", "--json").json["children"][0]["on_parent_end"] == "leave"
