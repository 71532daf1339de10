"""Chunks that are split as no rule would have it: contractions, abbreviations, emoticons.

The same ones as in spaCy's English (spacy/lang/en/tokenizer_exceptions.py, MIT), generated from
their parts where they follow a pattern.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

_ABBREVIATIONS = r"""
'S 's ‘S ‘s and/or w/o 're 'Cause 'cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout ma'am Ma'am o'clock O'clock
lovin' Lovin' lovin Lovin havin' Havin' havin Havin doin' Doin' doin Doin goin' Goin' goin Goin nothin'
Nothin' nothin Nothin nuthin' Nuthin' nuthin Nuthin ol' Ol' ol Ol somethin' Somethin' somethin Somethin em 'em
ll 'll nuff 'nuff Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill.
Ind. Jan. Jul. Jun. Kan. Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr.
Nev. Nov. Oct. Okla. Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash. Wis. 'd a.m. Adm. Bros. co. Co. Corp. D.C. Dr.
e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. p.m. Ph.D. Prof. Rep.
Rev. Sen. St. vs. v.s. ' \") <space> '' C++ \t \n — ä. ö. ü.
"""

_EMOTICONS = r"""
:) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) (-8 ;) ;-) (; (-; :( :-( :((
:-(( :((( :-((( ): )-: =( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| ]= =[ :1 :P :-P :p :-p :O :-O :o :-o :0
:-0 :() >:o :* :-* :3 :-3 =3 :> :-> :X :-X :x :-x :D :-D ;D ;-D =D xD XD xDD XDD 8D 8-D ^_^ ^__^ ^___^ >.< >.>
<.< ._. ;_; -_- -__- v.v V.V v_v V_V o_o o_O O_o O_O 0_o o_0 0_0 o.O O.o O.O o.o 0.0 o.0 0.o @_@ <3 <33 <333
</3 (^_^) (-_-) (._.) (>_<) (*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) ¯\(ツ)/¯ (╯°□°）╯︵┻━┻ ><(((*>
"""

_WORDS_AFTER_ALL = "Ill ill Its its Hell hell Shell shell Shed shed were Were Well well Whore whore"


def _both(words: str) -> Iterator[str]:
    for word in words.split():
        yield word
        yield word.title()


def _contracted(stems: Iterable[str], endings: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Each stem with each ending (its parts marked by ``|``), with apostrophes and without."""
    for stem in stems:
        for ending in endings:
            yield (stem, *ending.split("|"))
            yield (stem, *ending.replace("'", "").split("|"))


def _all() -> Iterator[tuple[str, ...]]:
    yield from _contracted(_both("i"), ["'m", "'m|a"])
    yield from _contracted(_both("i you he she it we they"), ["'ll", "'ll|'ve", "'d", "'d|'ve"])
    yield from _contracted(_both("i you we they"), ["'ve"])
    yield from _contracted(_both("you we they"), ["'re"])
    yield from _contracted(_both("he she it"), ["'s"])
    asking = "who what when where why how there that this"
    yield from _contracted(_both(asking), ["'s"])
    yield from _contracted(_both(asking + " these those"), ["'ll", "'ll|'ve", "'d", "'d|'ve"])
    yield from _contracted(_both("who what when where why how there these those"), ["'re", "'ve"])
    verbs = "ca could do does did had may might must need ought sha should wo would"
    for verb in _both(verbs):
        yield from ((verb, "n't"), (verb, "nt"), (verb, "n't", "'ve"), (verb, "nt", "ve"))
    yield from _contracted(_both("could might must should would not"), ["'ve"])
    for verb in _both("ai are is was were have has dare"):
        yield from ((verb, "n't"), (verb, "nt"))
    for hour in range(1, 13):
        yield from ((str(hour), half) for half in ("a.m.", "am", "p.m.", "pm"))
    for degree in "cfkCFK":
        yield ("°", degree, ".")
    yield from (("y'", "all"), ("y", "all"), ("how", "'d", "'y"), ("How", "'d", "'y"))
    yield from (("can", "not"), ("Can", "not"), ("gon", "na"), ("Gon", "na"), ("got", "ta"), ("Got", "ta"))
    yield from (("let", "'s"), ("Let", "'s"), ("c'm", "on"), ("C'm", "on"))
    yield from ((f"{letter}.",) for letter in "abcdefghijklmnopqrstuvwxyz")
    yield from ((whole,) for whole in f"{_ABBREVIATIONS} {_EMOTICONS}".split())


@cache
def exceptions() -> dict[str, tuple[str, ...]]:
    """Chunk → its words; every apostrophe may be a curly one."""
    straight = {text: parts for parts in _all() if (text := "".join(parts)) not in _WORDS_AFTER_ALL.split()}
    curly = {
        text.replace("'", "’"): tuple(part.replace("'", "’") for part in parts)
        for text, parts in straight.items()
        if "'" in text
    }
    return straight | curly
