"""Pages from the web in a recipe: every run asks, and rebuilds only what came out otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flows.home import Home
from tests.flows.conftest import make_all, planner_of, statuses
from tests.tasks.sources.web import Web, served

RECIPE = """\
name: web
steps:
  pages: {{task: collect, sources: [{{kind: http, urls: {urls}, allow_private: true, requests_per_second: 1e4}}]}}
  documents: {{task: clean, pages: pages}}
  kept: {{task: keep, documents: documents}}
resources: {{workers: 1}}
"""


@pytest.fixture
def web() -> Iterator[Web]:
    with served() as server:
        for name in "abc":
            server.page(f"/{name}", f"page {name}", ETag=f'"{name}"', Content_Type="text/plain")
        yield server


def test_every_run_collects_and_what_follows_is_built_when_something_changed(home: Home, web: Web) -> None:
    text = RECIPE.format(urls=[web.url(f"/{name}") for name in "abc"])
    assert planner_of(home, text).plan()["pages"].why == "first build"
    first = make_all(planner_of(home, text))
    decision = planner_of(home, text).plan()["pages"]
    assert (decision.action, decision.why) == ("build", "only collecting tells whether http changed")
    second = make_all(planner_of(home, text))
    assert statuses(second) == {"pages": "built", "documents": "reused", "kept": "reused"}
    assert second["pages"].artifact == first["pages"].artifact
    assert second["pages"].key != first["pages"].key
    web.page("/b", "page B", ETag='"B"', Content_Type="text/plain")
    third = make_all(planner_of(home, text))
    assert statuses(third) == {"pages": "built", "documents": "built", "kept": "built"}
    assert third["pages"].metrics["pages"] == 3
    accepted = make_all(planner_of(home, text, reuse=frozenset({"pages"})))
    assert statuses(accepted) == {"pages": "reused", "documents": "reused", "kept": "reused"}


def test_two_recipes_do_not_take_each_other_s_collections(home: Home, web: Web) -> None:
    text = RECIPE.format(urls=[web.url("/a")])
    one = make_all(planner_of(home, text))
    other = make_all(planner_of(home, text.replace("name: web", "name: other")))
    assert other["pages"].status == "built"
    assert other["pages"].key != one["pages"].key
    assert web.asked_for("/a") == 2


def test_a_build_that_was_not_finished_is_taken_up_under_its_key(home: Home, web: Web) -> None:
    text = RECIPE.format(urls=[web.url("/a")])
    keys = [planner_of(home, text).plan()["pages"].key for _ in range(2)]
    assert keys[0] == keys[1]
    make_all(planner_of(home, text))
    assert planner_of(home, text).plan()["pages"].key != keys[0]
