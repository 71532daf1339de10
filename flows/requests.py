"""Requests to forget that were recorded: listing them, and taking one back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from storage.errors import UserError
from storage.store import Store
from storage.takedown import Request, Takedowns, record

Json = dict[str, Any]

_SHOWN = 20


def withdraw(store: Store, number: int, reason: str = "") -> Json:
    """Record that request ``number`` is not to be obeyed any more; says what that brings back.

    Raises UserError if there is no such request, or if it was withdrawn before.
    """
    takedowns = Takedowns.of(store.place)
    asked = {request.number: request for request in takedowns.records if request.withdraws is None}.get(number)
    if asked is None:
        raise UserError(f"--withdraw {number}: there is no such request; `athanor forget --list` shows them all")
    if number in takedowns.withdrawn:
        at = takedowns.withdrawn[number].at
        raise UserError(f"--withdraw {number}: it was withdrawn on {at:%Y-%m-%d} already; nothing is to be done")
    others = {identity: r.number for r in takedowns.requests if r.number != number for identity in (*r.found, *r.ids)}
    withdrawal = record(store.place, Request(at=datetime.now(UTC), withdraws=number, reason=reason))
    return {
        "withdrawal": withdrawal.number,
        "withdraws": number,
        "documents": [identity for identity in asked.found if identity not in others],
        "still_left_out": {identity: others[identity] for identity in asked.found if identity in others},
        "purged": asked.purge,
    }


def withdrawn_text(content: Json) -> str:
    """What the command prints."""
    documents, others = content["documents"], content["still_left_out"]
    lines = [f"request {content['withdraws']} is withdrawn (record {content['withdrawal']})"]
    if content["purged"]:
        lines.append(
            f"{_documents(len(documents))} that it concerned cannot come back from the store, where their pages and "
            "texts were destroyed: the next run collects those anew that their sources still have"
        )
    else:
        lines.append(
            f"{_documents(len(documents))} that it concerned will be back with the next run of their recipes, as far "
            "as their sources still have the pages"
        )
    lines += [f"  {identity}" for identity in documents[:_SHOWN]]
    lines += [f"  and {len(documents) - _SHOWN} more"] if len(documents) > _SHOWN else []
    if others:
        numbers = ", ".join(str(number) for number in sorted(set(others.values())))
        lines.append(f"{_documents(len(others))} stay left out by other requests ({numbers})")
    return "\n".join(lines)


def listed(store: Store) -> Json:
    """All requests that were recorded, each with its ``state``: ``obeyed`` or ``withdrawn``."""
    takedowns = Takedowns.of(store.place)
    requests = []
    for request in takedowns.records:
        if request.withdraws is None:
            withdrawal = takedowns.withdrawn.get(request.number)
            shown = request.model_dump(mode="json", exclude={"withdraws"}) | {"state": "obeyed"}
            if withdrawal is not None:
                said = withdrawal.model_dump(mode="json", include={"at", "reason"})
                shown |= {"state": "withdrawn", "withdrawn": said}
            requests.append(shown)
    return {"requests": requests}


def listed_text(content: Json) -> str:
    """One line a request: number, date, what, how many documents, state, reason."""
    lines = []
    for request in content["requests"]:
        named = [f"{name[:-1]} {value}" for name in ("urls", "domains", "ids", "texts") for value in request[name]]
        more = [_documents(len(request["found"])), *(["purged"] if request["purge"] else [])]
        if request["state"] == "withdrawn":
            why = f" ({request['withdrawn']['reason']})" if request["withdrawn"]["reason"] else ""
            more.append(f"withdrawn {request['withdrawn']['at'][:10]}{why}")
        reason = f": {request['reason']}" if request["reason"] else ""
        lines.append(f"{request['number']}  {request['at'][:10]}  {', '.join(named)} ({', '.join(more)}){reason}")
    return "\n".join(lines) or "nothing was asked to be forgotten"


def _documents(number: int) -> str:
    return f"{number} document{'' if number == 1 else 's'}"
