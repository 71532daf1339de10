"""The tokenizer loses nothing, and gives the same ids everywhere."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.corpus import DOCUMENTS_SCHEMA, Documents, document_id, table_of, write_table
from storage.errors import UserError
from storage.tokenizer import Tokenizer
from tasks.train_tokenizer import TrainTokenizer, lines_of
from tests.helpers import SHARED, Outcome, run_task

CODE = "def f(x):\n    if x:\n\treturn {'a': [1, 2]}  # 注释\n\n\nclass A(B):\n        pass\n"
ENGLISH = "The quick brown fox jumps over the lazy dog, and the dog — being lazy — sleeps. "
CHINESE = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"


def made_documents(folder: Path, texts: list[str], per_partition: int = 20) -> Documents:
    rows = [
        {"id": document_id("made", str(n)), "text": text, "url": str(n), "source": "made", "first_seen": 1}
        for n, text in enumerate(texts)
    ]
    for number, start in enumerate(range(0, max(1, len(rows)), per_partition)):
        table = table_of(rows[start : start + per_partition], DOCUMENTS_SCHEMA)
        write_table(table, folder / f"{number:05}.parquet")
    return Documents.of_folder(folder)


def _texts() -> list[str]:
    rng = random.Random(0)
    words = (ENGLISH + "aaaa aaaaaaaa abababab ======== -------- haha hahahaha 啊啊啊啊").split()
    texts = [" ".join(rng.choices(words, k=40)) + "\n" + CHINESE[rng.randrange(12) :] + CODE for _ in range(60)]
    # Repetitive strings, so that pieces can be put together in many ways.
    texts += ["".join(rng.choices(("a", "b", "ab", "aab", "abb"), k=60)) for _ in range(60)]
    texts += ["".join(rng.choices("一二", k=rng.randrange(1, 40))) for _ in range(60)]
    return texts


def _train(tmp_path: Path, texts: list[str], name: str = "step", seed: int = 1, **settings: Any) -> Outcome:
    documents = made_documents(tmp_path / f"{name}-documents", texts)
    task = TrainTokenizer(documents="documents", **({"vocab_size": 600} | settings))  # type: ignore[arg-type]
    return run_task(task, {"documents": documents}, tmp_path, name=name, seed=seed)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    artifact = _train(tmp_path_factory.mktemp("tokenizer"), _texts()).artifact
    assert isinstance(artifact, Tokenizer)
    return artifact


@pytest.fixture(scope="module")
def fast(tokenizer: Tokenizer) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer.folder)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Any:
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_file=str(tokenizer.path("tokenizer.model")))


_ANY = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
_SPACED = st.lists(
    st.sampled_from(
        ["a", "aa", "ab", "  ", " ", "   ", "\n", "\n\n", "\t", "\r\n", "▁", "，", "１", "床", "😀", "e\u0301", "\0"]
    )
).map("".join)
_REPETITIVE = st.lists(st.sampled_from(["a", "b", "ab", "aab", "一", "二", " ", "=", "ha"]), max_size=60).map("".join)
_RUN = st.tuples(st.sampled_from(["a", "ab", "aab", " ", "\n", "\t", "=", "一二"]), st.integers(0, 70)).map(
    lambda run: run[0] * run[1]
)
_TEXT = st.one_of(_ANY, _SPACED, _REPETITIVE, _RUN, st.tuples(_SPACED, _RUN, _ANY).map("".join))


@settings(max_examples=400, deadline=None)
@given(_TEXT)
@example("  leading, ，full width１２３ ﬁ Å e\u0301 \u00a0\u3000 trailing  ")
@example("<s> </s> <unk> <pad> <0x41> ▁ ⁇ ▅ \ufeff \u2028 \x00 \x1b")
@example("a" * 8 + " " * 40 + "\n" * 11 + "\t" * 19)
@example(CODE + ENGLISH + CHINESE + "👩‍👩‍👧‍👦 🇨🇳")
def test_nothing_is_lost_and_ids_are_the_same_everywhere(
    tokenizer: Tokenizer, fast: Any, model: Any, text: str
) -> None:
    ids = tokenizer.encode(text).tolist()
    assert tokenizer.decode(ids) == text
    assert fast(text)["input_ids"] == ids
    assert fast.decode(ids) == text
    # SentencePiece itself takes its mark for a space; in everything else it agrees.
    if "▁" not in text:
        assert model.encode(text) == ids
    assert not {0, 1, 2, 3} & set(ids)


@settings(max_examples=40, deadline=None)
@given(st.lists(_TEXT, max_size=12))
def test_many_texts_at_once_are_as_one_by_one(tokenizer: Tokenizer, texts: list[str]) -> None:
    together = tokenizer.encode_many(texts)
    assert [ids.tolist() for ids in together] == [tokenizer.encode(text).tolist() for text in texts]


@settings(max_examples=30, deadline=None)
@given(st.lists(_TEXT, max_size=6))
def test_documents_lie_between_their_ends(tokenizer: Tokenizer, texts: list[str]) -> None:
    values, bounds = tokenizer.encode_documents(texts)
    expected = [[1, *tokenizer.encode(text).tolist(), 2] for text in texts]
    assert [values[start:end].tolist() for start, end in itertools.pairwise(bounds.tolist())] == expected
    assert len(values) == bounds[-1]


def test_every_short_string_over_a_small_alphabet_agrees(tokenizer: Tokenizer, fast: Any, model: Any) -> None:
    texts = ["".join(letters) for n in range(1, 13) for letters in itertools.product("ab", repeat=n)]
    assert [ids.tolist() for ids in tokenizer.encode_many(texts)] == model.encode(texts) == fast(texts)["input_ids"]


def test_layout_and_digits_have_their_pieces(tokenizer: Tokenizer) -> None:
    for run in ("\n", "\n\n", "\t", "\t\t", " " * 2, " " * 4, " " * 16):
        assert len(tokenizer.encode(run)) == 1
    assert len(tokenizer.encode("2024")) == 4
    assert [tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.vocab_size] == [1, 2, 3, 600]


def test_it_learns(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("The quick brown fox")) < 8
    assert len(tokenizer.encode("床前明月光")) <= 5


def test_transformers_knows_the_special_tokens(fast: Any) -> None:
    names = [fast.unk_token, fast.bos_token, fast.eos_token, fast.pad_token]
    assert names == ["<unk>", "<s>", "</s>", "<pad>"]
    assert [fast.convert_tokens_to_ids(name) for name in names] == [0, 1, 2, 3]
    assert fast.decode([1, *fast("hello  world")["input_ids"], 2], skip_special_tokens=True) == "hello  world"


def test_beside_a_llama_config_transformers_gives_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A model's folder holds the tokenizer too; ``config.json`` must not make another class of it."""
    import shutil

    from transformers import AutoTokenizer

    for name in tokenizer.names():
        shutil.copyfile(tokenizer.path(name), tmp_path / name)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    opened = AutoTokenizer.from_pretrained(tmp_path)
    for text in (ENGLISH, CHINESE, CODE, "  a▁b\n\n\t<s>", "a" * 50):
        assert opened(text)["input_ids"] == tokenizer.encode(text).tolist()
    opened.save_pretrained(tmp_path / "again")
    again = Tokenizer.of_folder(tmp_path / "again")
    assert again.encode(CODE).tolist() == tokenizer.encode(CODE).tolist()


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (_train(tmp_path, _texts(), name) for name in ("first", "second"))
    assert first.artifact.digest == second.artifact.digest


def test_several_corpora_are_trained_on_together(tmp_path: Path) -> None:
    english = made_documents(tmp_path / "english", [ENGLISH * 5] * 20)
    chinese = made_documents(tmp_path / "chinese", [CHINESE * 5] * 20)
    task = TrainTokenizer(documents=("english", "chinese"), vocab_size=420)  # type: ignore[arg-type]
    both = run_task(task, {"documents[0]": english, "documents[1]": chinese}, tmp_path, name="both")
    assert isinstance(both.artifact, Tokenizer)
    assert both.result.metrics["bytes_in"] == 100 * (len(ENGLISH.encode()) + len(CHINESE.encode()))
    for text in (ENGLISH, CHINESE):
        assert len(both.artifact.encode(text)) < len(text)
    joint = made_documents(tmp_path / "joint", [ENGLISH * 5] * 20 + [CHINESE * 5] * 20)
    single = TrainTokenizer(documents="joint", vocab_size=420)  # type: ignore[arg-type]
    assert run_task(single, {"documents": joint}, tmp_path, name="joint-step").artifact.digest == both.artifact.digest


def test_a_large_corpus_is_sampled_by_seed(tmp_path: Path) -> None:
    texts = _texts() * 10
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    outcomes = [
        _train(tmp_path, texts, f"step{seed}{n}", seed=seed, sample_megabytes=megabytes / 3, vocab_size=400)
        for seed, n in ((1, 0), (1, 1), (2, 0))
    ]
    assert outcomes[0].result.metrics["sampled_fraction"] == pytest.approx(1 / 3, rel=0.02)
    digests = [outcome.artifact.digest for outcome in outcomes]
    assert digests[0] == digests[1] != digests[2]


def test_sources_count_by_their_weights(tmp_path: Path) -> None:
    """Of two sources, one in Chinese, the weights decide which one's words become pieces."""
    rows = []
    for source, text in (("en", ENGLISH), ("zh", CHINESE)):
        for n in range(60):
            row = {"id": document_id(source, str(n)), "text": f"{text * 3} {n}", "url": str(n), "source": source}
            rows.append(row | {"first_seen": 1, "language": source})
    write_table(table_of(rows, DOCUMENTS_SCHEMA), tmp_path / "corpus" / "00000.parquet")
    documents = Documents.of_folder(tmp_path / "corpus")

    def train(name: str, **weights: float) -> Outcome:
        task = TrainTokenizer(documents="d", vocab_size=380, sample_megabytes=0.004, weights=weights)  # type: ignore[arg-type]
        return run_task(task, {"documents": documents}, tmp_path, name=name)

    english, chinese = train("english", en=9, zh=1).result.metrics, train("chinese", en=1, zh=9).result.metrics
    for kind in ("source", "language"):
        assert english[f"bytes_per_token.{kind}.en"] > chinese[f"bytes_per_token.{kind}.en"]
        assert english[f"bytes_per_token.{kind}.zh"] < chinese[f"bytes_per_token.{kind}.zh"]
    assert english["bytes_sampled.en"] > 5 * english["bytes_sampled.zh"]
    found = train("both", en=1, zh=1).result.samples
    samples = {sample.title: sample.before for sample in found}
    assert "language zh" in samples["bytes per token"]
    assert "source en" in samples["bytes per token"]
    assert samples["the longest pieces"].count("\n") == 39
    for language in ("en", "zh"):
        (shown,) = [sample for sample in found if sample.title == f"pieces of a text, language {language}"]
        assert "|" in shown.before
        assert shown.place in map(str, range(60)), "a purge finds the samples of a document by its URL"


def test_the_same_documents_in_other_partitions_give_the_same_tokenizer(tmp_path: Path) -> None:
    texts = _texts()
    outcomes = []
    for size in (7, 500):
        documents = made_documents(tmp_path / str(size), texts, per_partition=size)
        task = TrainTokenizer(documents="documents", vocab_size=500, sample_megabytes=0.02)  # type: ignore[arg-type]
        outcomes.append(run_task(task, {"documents": documents}, tmp_path, name=f"step{size}"))
    assert outcomes[0].artifact.digest == outcomes[1].artifact.digest
    assert outcomes[0].result.metrics == outcomes[1].result.metrics


CHAT = ("<|system|>", "<|user|>", "<|assistant|>", "<|end of turn|>")


def test_special_tokens_have_fixed_ids_and_no_text_is_read_as_one(tmp_path: Path) -> None:
    from sentencepiece import SentencePieceProcessor
    from transformers import AutoTokenizer

    texts = [" ".join(CHAT) * 5 + ENGLISH, *_texts()]
    tokenizer = _train(tmp_path, texts, special_tokens=CHAT).artifact
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.vocab_size == 600
    model = SentencePieceProcessor(model_file=str(tokenizer.path("tokenizer.model")))
    fast = AutoTokenizer.from_pretrained(tokenizer.folder)
    assert [model.piece_to_id(name) for name in CHAT] == [4, 5, 6, 7]
    assert fast.convert_tokens_to_ids(list(CHAT)) == [4, 5, 6, 7]
    text = "".join(CHAT) + " <|user|><s>"
    ids = tokenizer.encode(text).tolist()
    assert model.encode(text) == fast(text)["input_ids"] == ids
    assert min(ids) > 7
    assert tokenizer.decode([1, 5, *ids, 6, 2]) == text
    assert fast.decode([1, 5, *ids, 6, 2], skip_special_tokens=True) == text
    assert fast.decode([5]) == "<|user|>"


def test_sentinels_come_behind_the_special_tokens_and_gaps_are_filled_by_them(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = _train(tmp_path, _texts(), special_tokens=("<mask>",), sentinels=3).artifact
    assert isinstance(tokenizer, Tokenizer)
    assert (tokenizer.mask_id, tokenizer.sentinel_ids) == (4, [5, 6, 7])
    assert {4, 5, 6, 7} <= set(tokenizer.special_ids)
    assert min(tokenizer.encode("a <extra_id_0> b").tolist()) > 7
    assert AutoTokenizer.from_pretrained(tokenizer.folder).convert_tokens_to_ids(["<extra_id_2>"]) == [7]
    (tokenizer.folder / "tokenizer.model").unlink()
    assert Tokenizer.of_folder(tokenizer.folder).sentinel_ids == [5, 6, 7]


@pytest.mark.parametrize("names", [("<s>",), ("<0x0A>",), ("a", "a"), (" ",), ("a,b",), ("a\n",), ("▁x",)])
def test_names_that_cannot_be_special_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="special_tokens"):
        TrainTokenizer(documents="d", vocab_size=400, special_tokens=names)  # type: ignore[arg-type]


def test_a_unigram_model(tmp_path: Path) -> None:
    from sentencepiece import SentencePieceProcessor

    tokenizer = _train(tmp_path, _texts(), model="unigram", vocab_size=380, special_tokens=CHAT).artifact
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.names() == ["tokenizer.model"]
    model = SentencePieceProcessor(model_file=str(tokenizer.path("tokenizer.model")))
    for text in (CODE, ENGLISH, CHINESE, "  a\n\n\tb   2024 👩‍👩‍👧‍👦 <|user|> ", ""):
        ids = tokenizer.encode(text).tolist()
        assert ids == model.encode(text)
        assert tokenizer.decode(ids) == text
        assert not set(range(8)) & set(ids)
    assert len(tokenizer.encode("2024")) == 4


def test_pieces_that_the_sample_makes_no_use_of_are_counted_and_shown(tmp_path: Path) -> None:
    from sentencepiece import SentencePieceProcessor

    outcome = _train(tmp_path, [ENGLISH * 3, CHINESE], vocab_size=400)
    tokenizer = outcome.artifact
    assert isinstance(tokenizer, Tokenizer)
    model = SentencePieceProcessor(model_file=str(tokenizer.path("tokenizer.model")))
    used = set(model.encode(ENGLISH * 3)) | set(model.encode(CHINESE))
    unused = [n for n in range(400) if n not in used and not model.is_byte(n) and n > 3]
    assert {model.piece_to_id(digit) for digit in "0123456789"} <= set(unused)
    assert outcome.result.metrics["unused_pieces"] == len(unused)
    (shown,) = (str(s.before) for s in outcome.result.samples if s.title == "pieces that the sample makes no use of")
    assert shown.startswith(f"{len(unused)} in all: ")
    assert [line.endswith("  0") for line in shown.splitlines()] == [True] * 40
    assert shown.endswith("'9'  0")


def test_whether_it_is_pinned_is_no_part_of_what_it_is() -> None:
    kept, fresh = (TrainTokenizer(documents="d", vocab_size=400, pin=pin) for pin in (True, False))  # type: ignore[arg-type]
    assert (kept.pinned(), fresh.pinned()) == (True, False)
    assert kept.settings() == fresh.settings()


@given(st.text(st.sampled_from("ab \n\t一\0▁"), max_size=300), st.integers(1, 60))
def test_lines_hold_all_of_the_text(text: str, times: int) -> None:
    whole = text * times
    lines = list(lines_of(whole))
    assert all(0 < len(line) <= 4000 for line in lines)
    kept = [character for character in whole if character not in "\n\t\0▁"]
    assert "".join(lines) == "".join(kept)


def test_a_text_with_no_space_and_no_line_break_is_trained_on(tmp_path: Path) -> None:
    tokenizer = _train(tmp_path, ["明月光" * 20_000], vocab_size=304).artifact
    assert isinstance(tokenizer, Tokenizer)
    assert len(tokenizer.encode("明月光" * 100)) < 100
    assert tokenizer.decode(tokenizer.encode("a b")) == "a b"
    assert len(tokenizer.encode(" ")) == 1


@pytest.mark.parametrize(
    ("texts", "vocab_size", "said"),
    [
        ([ENGLISH], 30_000, r"vocab_size 30000 is more than .* set it to \d+ or less"),
        (
            ["".join(chr(0x4E00 + n) for n in range(3000))] * 3,
            400,
            r"vocab_size 400 is too small .* set it to \d+ or more",
        ),
        ([], 400, "hold no text"),
        (["", "\n\n"], 400, "hold no text"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(
    tmp_path: Path, texts: list[str], vocab_size: int, said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        _train(tmp_path, texts, vocab_size=vocab_size)
    assert "\n" not in str(caught.value)


def test_texts_full_of_special_names_can_be_trained_on(tmp_path: Path) -> None:
    tokenizer = _train(tmp_path, ["<s> </s> <unk> <pad> <0x41> <0x0A> s unk pad x " * 200], vocab_size=316).artifact
    assert isinstance(tokenizer, Tokenizer)
    text = "<s></s><unk><pad><0x41>"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert not {0, 1, 2, 3} & set(tokenizer.encode(text).tolist())


@pytest.mark.skipif(not SHARED.exists(), reason=f"real texts are not at {SHARED}")
def test_real_chinese_and_english(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    with (SHARED / "text/tang_poems.jsonl").open(encoding="utf-8") as lines:
        poems = [json.loads(line)["text"] for line in itertools.islice(lines, 2000)]
    novel = (SHARED / "text/botchan.txt").read_text("utf-8")
    texts = poems + [novel[start : start + 2000] for start in range(0, len(novel), 2000)]
    tokenizer = _train(tmp_path, texts, vocab_size=6000).artifact
    assert isinstance(tokenizer, Tokenizer)
    fast = AutoTokenizer.from_pretrained(tokenizer.folder)
    encoded = tokenizer.encode_many(texts)
    assert [ids.tolist() for ids in encoded] == fast(texts)["input_ids"]
    assert [tokenizer.decode(ids) for ids in encoded] == texts
