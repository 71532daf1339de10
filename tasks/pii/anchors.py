"""Where in a text something may begin, found in columns.

Nearly all text holds nothing, so what costs is to see that. A few passes over the bytes in NumPy
(digits close together, at signs, colons, dots and dashes at fixed distances, long runs of letters)
leave some hundred positions in a million; only there patterns are tried. Every position at which a
form matches is among them: a test compares with trying all forms everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tasks.pii import network, numbers, secrets
from tasks.pii.kinds import Form

Positions = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


def _table(members: bytes) -> npt.NDArray[np.bool_]:
    table = np.zeros(256, bool)
    table[list(members)] = True
    return table


_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SEPARATES = _table(numbers.SEPARATORS.encode())
_LETTER = _table(_LETTERS)
_HEX = _table(b"0123456789abcdefABCDEF")
_OPENS = _table(b"+(")
_MAY_BORDER = _HEX | ~_table(_LETTERS + b"0123456789_:")
"""What may stand beside two colons in an address: its digits, or what is outside of it."""
_ENDS_TOKEN_NAME = _table(b"deghlntyDEGHLNTY")
"""The last letters of the names of tokens in URLs."""
_IN_VALUE = _table(_LETTERS + b"0123456789%._~+/-")
_TOKEN = bytes(byte in _LETTERS + b"0123456789_-" for byte in range(256))
_FIRST_PAIR, _SECOND_PAIR = np.zeros((2, 256, 256), bool)
for _letters in secrets.FIRST_LETTERS.split():
    _FIRST_PAIR[ord(_letters[0]), ord(_letters[1])] = True
    _SECOND_PAIR[ord(_letters[1]), slice(None) if _letters[2] == "*" else ord(_letters[2])] = True
_BEFORE_DOT = _table(bytes({prefix[-2] for prefix in secrets.SHORT_PREFIXES}))
_PADDING = 64
"""Bytes of 0xFF around the text, so that looking a little to either side needs no bounds."""


def tries(data: bytes) -> Iterator[tuple[Form, list[int]]]:
    """Forms and the positions in ``data`` (UTF-8, texts parted by 0xFF) at which each has to be tried.

    Time is linear in the bytes, and memory about 20 bytes for each digit, sign or run that is looked at.
    """
    padding = b"\xff" * _PADDING
    padded = padding + data + padding
    bytes_ = np.frombuffer(padded, np.uint8)
    yield from _numbers(bytes_, data)
    yield from _signs(bytes_, data)
    yield from _spaced(bytes_)
    yield from _tokens(padded, bytes_, data)


def _list(positions: Positions) -> list[int]:
    """Distinct positions in the unpadded text."""
    return [start for start in (np.unique(positions) - _PADDING).tolist() if start >= 0]


def _numbers(bytes_: Bytes, data: bytes) -> Iterator[tuple[Form, list[int]]]:
    """Numbers of enough digits close together, IPv4 addresses, and what begins with letters before digits."""
    digits = np.flatnonzero((bytes_ - np.uint8(48)) < 10)
    if len(digits) < 4:
        return
    gaps = np.diff(digits)
    firsts = np.concatenate(([0], np.flatnonzero(gaps != 1) + 1))
    """Indices (into digits) of the first of consecutive digits."""
    starts = digits[firsts]
    long_enough = _in_long_numbers(bytes_, digits, gaps)[firsts]
    numbers_ = starts[long_enough]
    if len(numbers_):
        opened = [numbers_]
        opens = _OPENS[bytes_[numbers_ - 1]]
        opened += [numbers_[opens] - 1, numbers_[opens & _OPENS[bytes_[numbers_ - 2]]] - 2]
        wide = (bytes_[numbers_ - 3] == 0xEF) & (bytes_[numbers_ - 2] == 0xBC) & (bytes_[numbers_ - 1] == 0x88)
        opened.append(numbers_[wide] - 3)
        yield from numbers.number_tries(data, _list(np.concatenate(opened)))
    least, most = numbers.PASSPORT_DIGITS
    counts = np.diff(np.append(firsts, len(digits)))
    passports = starts[(counts >= least) & (counts <= most)]
    one, two = _LETTER[bytes_[passports - 1]], _LETTER[bytes_[passports - 2]]
    yield numbers.PASSPORT_FORM, _list(np.concatenate((passports, passports[one] - 1, passports[one & two] - 2)))
    lettered = _LETTER[bytes_[starts - 1]] & _LETTER[bytes_[starts - 2]] & ~_LETTER[bytes_[starts - 3]]
    lettered &= (bytes_[starts + 1] - np.uint8(48)) < 10
    yield numbers.IBAN_FORM, _list(starts[lettered] - 2)
    dotted = np.flatnonzero((gaps == 2) & (bytes_[digits[:-1] + 1] == ord(".")))
    if len(dotted) >= 3:
        first = dotted[:-2][digits[dotted[2:]] - digits[dotted[:-2]] <= 8]
        yield network.IPV4_FORM, _list(starts[np.searchsorted(firsts, first, "right") - 1])


def _in_long_numbers(bytes_: Bytes, digits: Positions, gaps: Positions) -> npt.NDArray[np.bool_]:
    """For each digit whether it is one of enough with only separators between them."""
    joined = gaps == 1
    for gap in range(2, numbers.MOST_BETWEEN + 1):
        at = np.flatnonzero(gaps == gap)
        for step in range(1, gap):
            at = at[_SEPARATES[bytes_[digits[at] + step]]]
        joined[at] = True
    run = np.concatenate(([0], np.cumsum(~joined)))
    enough: npt.NDArray[np.bool_] = (np.bincount(run) >= numbers.LEAST_DIGITS)[run]
    return enough


def _signs(bytes_: Bytes, data: bytes) -> Iterator[tuple[Form, list[int]]]:
    """What has an at sign, an equals sign, colons, dashes or dots at certain distances."""
    at = (np.flatnonzero(bytes_ == ord("@")) - _PADDING).tolist()
    yield network.EMAIL_FORM, [start for sign in at for start in _starts_of_email(data, sign)]
    yield network.CREDENTIALS_FORM, sorted({start for sign in at for start in _starts_of_url(data, sign)})
    equals = np.flatnonzero(bytes_ == ord("="))
    equals = equals[_ENDS_TOKEN_NAME[bytes_[equals - 1]] & _IN_VALUE[bytes_[equals + 1]]] - _PADDING
    yield network.QUERY_TOKEN_FORM, [start for sign in equals.tolist() for start in _start_of_query(data, sign)]
    yield network.IPV6_FORM, _starts_of_ipv6(bytes_, data)


def _spaced(bytes_: Bytes) -> Iterator[tuple[Form, list[int]]]:
    """What has signs at fixed distances: hardware addresses, and the five dashes before BEGIN."""
    colon, dash, dot = (bytes_ == ord(sign) for sign in ":-.")
    pairs = np.flatnonzero(_spread(colon, 3, 5) | _spread(dash, 3, 5))
    fours = np.flatnonzero(_spread(dot, 5, 2))
    pairs, fours = (at[_HEX[bytes_[at - 1]] & _HEX[bytes_[at + 1]]] for at in (pairs, fours))
    yield network.MAC_FORM, _list(np.concatenate((pairs - 2, fours - 4)))
    begins = np.flatnonzero(_spread(dash, 1, 5))
    yield secrets.PEM_FORM, _list(begins[bytes_[begins + 5] == ord("B")])


def _spread(sign: npt.NDArray[np.bool_], distance: int, count: int) -> npt.NDArray[np.bool_]:
    """Whether so many follow from here, each so far from the one before."""
    size = len(sign) - distance * (count - 1)
    found = sign[:size]
    for number in range(1, count):
        found = found & sign[number * distance : number * distance + size]
    return found


_LOCAL = re.compile(rb"[A-Za-z0-9._%+\-]{1,64}+\Z")
_LOCAL_START = re.compile(rb"(?<![A-Za-z0-9_])[A-Za-z0-9_]")
_SCHEME = re.compile(rb"(?<![A-Za-z0-9+.\-])[A-Za-z][A-Za-z0-9+.\-]{1,15}\Z")
_HEX_RUN = re.compile(rb"[0-9A-Fa-f:]{0,39}\Z")


def _starts_of_email(data: bytes, sign: int) -> Iterator[int]:
    local = _LOCAL.search(data, max(0, sign - network.MOST_LOCAL), sign)
    if local:
        yield from (match.start() for match in _LOCAL_START.finditer(data, local.start(), sign))


def _starts_of_url(data: bytes, sign: int) -> Iterator[int]:
    slashes = data.rfind(b"://", max(0, sign - network.MOST_USERINFO), sign)
    scheme = _SCHEME.search(data, max(0, slashes - 16), slashes) if slashes > 0 else None
    if scheme:
        yield scheme.start()


def _start_of_query(data: bytes, sign: int) -> Iterator[int]:
    least = max(0, sign - network.MOST_TOKEN_NAME)
    start = max(data.rfind(opening, least, sign) for opening in (b"?", b"&", b";"))
    if start >= 0:
        yield start


def _starts_of_ipv6(bytes_: Bytes, data: bytes) -> list[int]:
    """Two colons together between hexadecimal digits or the ends of a word; or six colons with groups between them."""
    colons = np.flatnonzero(bytes_ == ord(":"))
    gaps = np.diff(colons)
    double = colons[:-1][gaps == 1]
    left, right = bytes_[double - 1], bytes_[double + 2]
    double = double[_MAY_BORDER[left] & _MAY_BORDER[right] & (_HEX[left] | _HEX[right])]
    grouped = (gaps >= 2) & (gaps <= 5)
    full = colons[:-5][grouped[:-4] & grouped[1:-3] & grouped[2:-2] & grouped[3:-1] & grouped[4:]]
    starts = set()
    for colon in (np.concatenate((double, full)) - _PADDING).tolist():
        run = _HEX_RUN.search(data, max(0, colon - network.MOST_IPV6), colon)
        if run:
            starts.add(run.start())
    return sorted(starts)


def _tokens(padded: bytes, bytes_: Bytes, data: bytes) -> Iterator[tuple[Form, list[int]]]:
    """Long runs of letters, digits, ``_`` and ``-`` whose first three bytes begin a key's format.

    A run of fifteen covers three blocks of four bytes at multiples of four, which are compared as one number each.
    """
    inside = np.frombuffer(padded.translate(_TOKEN), np.uint8)
    full = inside[: len(inside) // 4 * 4].view(np.uint32) == 0x01010101
    first = full[1:-2] & full[2:-1] & full[3:] & ~full[:-3]
    blocks = (np.flatnonzero(first) + 1) * 4
    one = inside[blocks - 1]
    two = one & inside[blocks - 2]
    starts = blocks - one - two - (two & inside[blocks - 3])
    letters = bytes_[starts], bytes_[starts + 1], bytes_[starts + 2]
    begins = _FIRST_PAIR[letters[0], letters[1]] & _SECOND_PAIR[letters[1], letters[2]]
    after_dot = (bytes_[starts - 1] == ord(".")) & _BEFORE_DOT[bytes_[starts - 2]]
    runs = _list(starts[begins | after_dot])
    yield secrets.KEY_FORM, sorted({start for run in runs for start in secrets.starts_of_key(data, run)})
    yield secrets.SECRET_NAME_FORM, runs
