"""Chinese sentences with personal data made up by chance, and with numbers that only look like it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

_UPPER, _LOWER, _DIGITS, _HEX = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "abcdefghijklmnopqrstuvwxyz",
    "0123456789",
    "0123456789abcdef",
)
_FULL_WIDTH = str.maketrans(_DIGITS, "０１２３４５６７８９")


@dataclass(frozen=True)
class Sentence:
    """A text and what is in it: kind, and positions in characters."""

    text: str
    spans: tuple[tuple[str, int, int], ...]


def sentences(each: int = 100, seed: int = 7) -> list[Sentence]:
    """``each`` sentences of every kind of item and of every kind of look-alike; the same for the same seed."""
    chance = random.Random(seed)
    made = []
    for kind, (templates, item) in _ITEMS.items():
        for _ in range(each):
            before, after = chance.choice(templates).split("{}")
            value = item(chance)
            made.append(Sentence(before + value + after, ((kind, len(before), len(before) + len(value)),)))
    for template, item in _LOOK_ALIKES:
        for _ in range(each):
            made.append(Sentence(template.replace("{}", item(chance)), ()))
    chance.shuffle(made)
    return made


def _of(chance: random.Random, alphabet: str, length: int) -> str:
    return "".join(chance.choices(alphabet, k=length))


def _digits(chance: random.Random, length: int) -> str:
    return _of(chance, _DIGITS, length)


def _birthday(chance: random.Random) -> str:
    return f"{date(1940, 1, 1) + timedelta(days=chance.randrange(25_000)):%Y%m%d}"


def _identity(chance: random.Random) -> str:
    head = f"{chance.choice(['110105', '310101', '440106', '510104', '330106'])}{_birthday(chance)}{_digits(chance, 3)}"
    weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]
    number = head + "10X98765432"[sum(int(d) * w for d, w in zip(head, weights, strict=True)) % 11]
    return chance.choice([number, number, number.lower(), f"{number[:6]} {number[6:14]} {number[14:]}"])


def _wrong_identity(chance: random.Random) -> str:
    right = _identity(chance).replace(" ", "")
    return right[:-1] + chance.choice([c for c in _DIGITS if c != right[-1]])


def _luhn_digit(head: str) -> int:
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(reversed(head)))
    return -total % 10


def _card(chance: random.Random) -> str:
    prefix, length = chance.choice([("62", 16), ("62", 19), ("4", 16), ("53", 16), ("6011", 16), ("37", 15)])
    head = prefix + _digits(chance, length - len(prefix) - 1)
    number = f"{head}{_luhn_digit(head)}"
    return " ".join(number[i : i + 4] for i in range(0, 16, 4)) if length == 16 and chance.random() < 0.5 else number


def _wrong_card(chance: random.Random) -> str:
    head = "62" + _digits(chance, 16)
    return f"{head}{(_luhn_digit(head) + chance.randrange(1, 10)) % 10}"


def _mobile(chance: random.Random) -> str:
    number = f"1{chance.choice('3456789')}{_digits(chance, 9)}"
    prefix = chance.choice(["", "", "", "+86 ", "+86", "86-", "0086 "])
    forms = (number, f"{number[:3]} {number[3:7]} {number[7:]}", f"{number[:3]}-{number[3:7]}-{number[7:]}")
    if chance.random() < 0.05:
        return number.translate(_FULL_WIDTH)
    return prefix + chance.choice(forms)


def _landline(chance: random.Random) -> str:
    area = chance.choice(["010", "021", "020", "0571", "0755", "0451"])
    number = f"{chance.choice('2345678')}{_digits(chance, 7 if len(area) == 3 else chance.choice([6, 7]))}"
    forms = [f"{area}-{number}", f"({area}){number}", f"（{area}）{number}", f"{area} {number}", f"{area}-{number}-801"]
    forms += [f"{area}－{number}", f"{area}-{number[:-4]} {number[-4:]}", f"{area}{number}", number]
    return chance.choice([*forms, f"+86-{area[1:]}-{number}", f"400-{_digits(chance, 3)}-{_digits(chance, 4)}"])


def _email(chance: random.Random) -> str:
    name = chance.choice(["zhang.san", "li_si", "wangwu88", "zhao-liu", _digits(chance, 9), _of(chance, _LOWER, 6)])
    sign = "＠" if chance.random() < 0.03 else "@"
    return f"{name}{sign}{chance.choice(['qq.com', '163.com', 'sina.com.cn', 'mail.tsinghua.edu.cn', 'example.org'])}"


def _ip(chance: random.Random) -> str:
    if chance.random() < 0.2:
        return "2001:db8:" + ":".join(_of(chance, _HEX, 4) for _ in range(6))
    return ".".join(str(chance.randrange(21, 250)) for _ in range(4))


def _mac(chance: random.Random) -> str:
    return chance.choice(":-").join(_of(chance, _HEX, 2) for _ in range(6))


def _passport(chance: random.Random) -> str:
    return chance.choice(["E", "G", "EA", "EK", "D"]) + _digits(chance, 8)


def _secret(chance: random.Random) -> str:
    letters = _UPPER + _LOWER + _DIGITS
    kinds = (
        "AKI" + "A" + _of(chance, _UPPER + "234567", 16),
        "LTA" + "I" + _of(chance, letters, 20),
        "gh" + "p_" + _of(chance, letters, 36),
        "h" + "f_" + _of(chance, _UPPER + _LOWER, 34),
        "sk" + "-" + _of(chance, letters, 48),
    )
    return chance.choice(kinds)


def _password(chance: random.Random) -> str:
    return f"{_of(chance, _LOWER, 5)}:{_of(chance, _UPPER + _LOWER + _DIGITS, 12)}"


def _time(chance: random.Random) -> str:
    return f"{chance.randrange(10, 24)}:{chance.randrange(10, 60)}:{chance.randrange(10, 60)}"


_Item = Callable[[random.Random], str]
_ITEMS: dict[str, tuple[list[str], _Item]] = {
    "chinese_identity_number": (["身份证号：{}。", "张三（{}）已登记", "证件{}，请核对"], _identity),
    "credit_card": (["卡号{}，请付款", "我的银行卡是 {} 。", "尾号见{}"], _card),
    "chinese_mobile": (["手机{}，随时联系", "请打{}找我。", "联系人李四{}（微信同号）"], _mobile),
    "phone": (["电话：{}。", "办公室{}，传真另附", "客服热线 {} 转1"], _landline),
    "email": (["邮箱{}。", "请发到{}，谢谢", "联系：{}（工作日）"], _email),
    "ip_address": (["服务器{}宕机", "从{}登录失败", "地址是 {} 。"], _ip),
    "mac_address": (["网卡{}。", "设备{}已上线"], _mac),
    "passport": (["护照号码：{}。", "护照{}有效", "持护照（{}）入境"], _passport),
    "api_key": (["密钥是{}，勿外传", "export KEY={}", '"key": "{}"，'], _secret),
    "url_credentials": (["仓库 https://{}@git.example.org/x 可用"], _password),
}
_LOOK_ALIKES: list[tuple[str, _Item]] = [
    ("订单号{}已发货", _wrong_identity),
    ("流水号{}。", _wrong_card),
    ("运单SF{}在途", lambda chance: _digits(chance, 13)),
    ("编号：{}号", lambda chance: f"{_birthday(chance)}{_digits(chance, 4)}"),
    ("时间{}记录", lambda chance: f"20{_digits(chance, 2)}-0{chance.randrange(1, 10)}-12 {_time(chance)}"),
    ("版本{}发布", lambda chance: ".".join(str(chance.randrange(30)) for _ in range(4))),
    ("见第{}节", lambda chance: ".".join(str(chance.randrange(1, 15)) for _ in range(4))),
    ("书号ISBN {}出版", lambda chance: f"978-7-{_digits(chance, 3)}-{_digits(chance, 5)}-{_digits(chance, 1)}"),
    ("共{}元整", lambda chance: f"{chance.randrange(1, 999)},{_digits(chance, 3)},{_digits(chance, 3)}.00"),
    ("坐标{}附近", lambda chance: f"39.{_digits(chance, 6)},116.{_digits(chance, 6)}"),
    ("校验和{}一致", lambda chance: _of(chance, _HEX, 40)),
    ("数字{}结束", lambda chance: f"1{chance.choice('012')}{_digits(chance, 9)}"),
    ("长数{}结束", lambda chance: f"13{_digits(chance, 12)}"),
    ("信用代码91{}X", lambda chance: _digits(chance, 15)),
    ("π约为3.{}……", lambda chance: _digits(chance, 14)),
    ("产品E{}型", lambda chance: _digits(chance, 8)),
    ("占比{}", lambda chance: " ".join(_digits(chance, 2) for _ in range(6))),
    ("时刻{}的记录", lambda chance: f"{_time(chance)}.{_digits(chance, 6)}"),
]  # fmt: skip
