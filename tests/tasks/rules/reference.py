"""The published rules written out as plain loops over one document's words and lines, to compare with."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from tasks.rules.signs import SENTENCE_ENDS, SYMBOLS
from tasks.rules.words import split_chunk


def words_of(text: str) -> list[str]:
    return [word for chunk in text.split() for word in split_chunk(chunk)]


def duplicates(parts: list[str]) -> tuple[int, int]:
    """Parts that stood before, and their characters."""
    seen: set[str] = set()
    count = characters = 0
    for part in parts:
        if part in seen:
            count, characters = count + 1, characters + len(part)
        seen.add(part)
    return count, characters


def in_top_run(words: list[str], n: int) -> int:
    runs = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    run, count = runs.most_common(1)[0] if runs else ("", 0)
    return len(run) * count


def in_repeated_runs(words: list[str], n: int) -> int:
    seen: set[str] = set()
    found = at = 0
    while at <= len(words) - n:
        run = "".join(words[at : at + n])
        if run in seen:
            found, at = found + len(run), at + n
        else:
            seen.add(run)
            at += 1
    return found


def sentences(line: str) -> int:
    words, count, ended = words_of(line), 1, False
    for word in words:
        is_end = word in SENTENCE_ENDS
        if ended and not is_end and not all(unicodedata.category(c).startswith("P") for c in word):
            count, ended = count + 1, False
        ended = ended or is_end
    return count if words else 0


def gopher_quality(text: str) -> set[str]:
    words = words_of(text)
    real = [word for word in words if not set(word) <= SYMBOLS]
    lines = text.splitlines()
    mean = sum(map(len, real)) / len(real) if real else 5
    per_word = max(text.count("#"), text.count("...") + text.count("…")) / len(words) if words else 0
    found = {
        "length": not 50 <= len(real) <= 100_000,
        "word_length": not 3 <= mean <= 10,
        "symbols": per_word > 0.1,
        "bullets": bool(lines) and sum(line.lstrip().startswith(("•", "-")) for line in lines) / len(lines) > 0.9,
        "ellipses": bool(lines) and sum(line.rstrip().endswith(("...", "…")) for line in lines) / len(lines) > 0.3,
        "alphabetic": not words or sum(any(map(str.isalpha, word)) for word in words) / len(words) < 0.8,
        "stop_words": len({"the", "be", "to", "of", "and", "that", "have", "with"}.intersection(words)) < 2,
    }
    return {reason for reason, is_found in found.items() if is_found}


def gopher_repetition(text: str) -> set[str]:
    found = set()
    if not text:
        return found
    for parts in (re.split(r"\n{2,}", text.strip()), re.split(r"\n+", text)):
        count, characters = duplicates(parts)
        if count / len(parts) > 0.3 or characters / len(text) > 0.2:
            found.add("repeated_lines")
    words = words_of(text)
    tops = {2: 0.2, 3: 0.18, 4: 0.16}
    repeated = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
    if any(in_top_run(words, n) / len(text) > most for n, most in tops.items()) or any(
        in_repeated_runs(words, n) / len(text) > most for n, most in repeated.items()
    ):
        found.add("repeated_words")
    return found


def fineweb(text: str) -> set[str]:
    lines = [line for line in text.split("\n") if line.strip()]
    words = words_of(text)
    if not lines:
        return {"punctuation"}
    found = {
        "punctuation": sum(line.endswith(tuple(SENTENCE_ENDS)) for line in lines) / len(lines) < 0.12,
        "short_lines": sum(len(line) <= 30 for line in lines) / len(lines) > 0.67,
        "duplicate_lines": duplicates(lines)[1] / len(text.replace("\n", "")) > 0.1,
        "lists": text.count("\n") / len(words) > 0.3,
    }
    return {reason for reason, is_found in found.items() if is_found}


def c4(text: str) -> tuple[bool, str]:
    """Whether it is dropped; else the lines that stay, without blank ones."""
    kept, count = [], 0
    for raw in text.splitlines():
        line = raw.strip()
        words = line.split()
        if any(len(word) > 1000 for word in words):
            continue
        line = re.sub(r"\[\d*\]|\[edit\]|\[citation needed\]", "", line)
        lowered = line.lower()
        if not line.endswith((".", "?", "!", '"', "'")) or line.endswith("...") or len(words) < 3:
            continue
        if "lorem ipsum" in lowered:
            return True, ""
        if "javascript" in lowered:
            continue
        if "{" in line:
            return True, ""
        if any(notice in lowered for notice in ("terms of use", "privacy policy", "cookie policy", "use cookies")):
            continue
        count += sentences(line)
        kept.append(line)
    return count < 5, "\n".join(kept).strip()
