"""Texts in which nothing is to be found: real code, real documents, prose, and what looks alike.

The code is this project's and the standard library's, cut at its functions and classes; the
documents are this project's, cut at their headings. What only looks like a secret or a number of a
person is made up from a seed: hashes, ids, lock files, times, logs, patches, placeholders.
"""

import base64
import hashlib
import re
import sysconfig
import uuid
from pathlib import Path
from random import Random

from faker import Faker

__all__ = ["clean_snippets"]

ROOT = Path(__file__).parents[2]
_MODULES = """
    argparse ast asyncio/base_events asyncio/tasks base64 bdb calendar cmd codecs
    collections/__init__ configparser contextlib csv dataclasses datetime difflib dis doctest
    email/message enum fractions ftplib functools gettext heapq html/parser http/client
    http/server imaplib importlib/_bootstrap inspect ipaddress json/decoder json/encoder
    locale logging/__init__ logging/handlers mailbox mimetypes multiprocessing/pool netrc
    numbers optparse os pathlib pdb pickle pickletools platform plistlib poplib pprint random
    shutil smtplib socket sqlite3/dump ssl statistics string subprocess tarfile tempfile
    textwrap threading timeit tokenize traceback turtle typing unittest/case unittest/mock
    urllib/parse urllib/request uuid warnings xml/dom/minidom xml/etree/ElementTree
    xmlrpc/client zipfile
"""
MODULES = _MODULES.split()
_ADDRESS = re.compile(r"[\w.+-]@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b")
CHARACTERS_MIN = 80


def clean_snippets(seed: int) -> list[tuple[str, str]]:
    """Where each is from, and the text; those in which a real address stands are left out."""
    random = Random(seed)
    found = [
        *(("standard library", text) for text in _code_of(_library())),
        *(("this project's code", text) for text in _code_of(_own("*.py"))),
        *(("this project's documents", text) for text in _documents()),
        *(("prose", text) for text in _prose(seed)),
        *(("alike", text) for _ in range(12) for text in _alike(random)),
    ]
    return [(source, text) for source, text in found if not _ADDRESS.search(text)]


def _library() -> list[Path]:
    folder = Path(sysconfig.get_path("stdlib"))
    paths = [folder / f"{name}.py" for name in MODULES]
    return [path for path in paths if path.is_file()]


def _own(pattern: str) -> list[Path]:
    folders = [ROOT / name for name in ("services", "schemas", "docs", "bench")]
    return sorted(path for folder in folders for path in folder.rglob(pattern))


def _code_of(paths: list[Path]) -> list[str]:
    return [
        text
        for path in paths
        for text in re.split(r"\n(?=(?:async )?def |class |    def )", path.read_text("utf-8"))
        if len(text) >= CHARACTERS_MIN
    ]


def _documents() -> list[str]:
    return [
        text
        for path in _own("*.md")
        for text in re.split(r"\n(?=#+ )", path.read_text("utf-8"))
        if len(text) >= CHARACTERS_MIN
    ]


def _prose(seed: int) -> list[str]:
    texts = []
    for locale in ("en_US", "de_DE", "fr_FR", "pl_PL", "ja_JP", "ru_RU"):
        faker = Faker(locale)
        faker.seed_instance(seed)
        texts += [faker.text(max_nb_chars=600) for _ in range(40)]
    return texts


def _alike(random: Random) -> list[str]:
    """One of each text that looks like what the rules speak of, and is none."""

    def sha(name: str) -> str:
        return hashlib.new(name, random.randbytes(32)).hexdigest()

    def ids(count: int) -> list[str]:
        return [str(uuid.UUID(int=random.getrandbits(128), version=4)) for _ in range(count)]

    def integrity() -> str:
        return "sha512-" + base64.b64encode(random.randbytes(64)).decode()

    def number(low: int, high: int) -> int:
        return random.randrange(low, high)

    image = base64.b64encode(random.randbytes(900)).decode()
    rows = [f"{number(0, 10**9)},{random.random():.12f},{number(0, 500)}" for _ in range(20)]
    times = [1_700_000_000_000_000_000 + number(0, 10**17) for _ in range(8)]
    return [
        "\n".join(
            f"commit {sha('sha1')}\nDate:   Tue Mar {n} 12:00:00 2024 +0100\n" for n in range(1, 9)
        ),
        "\n".join(f"{sha('sha256')}  build/part-{n}.tar.gz" for n in range(10)),
        "\n".join(f"    --hash=sha256:{sha('sha256')} \\" for _ in range(8)),
        f'"node_modules/left-pad": {{"version": "1.3.0", "integrity": "{integrity()}"}}',
        "\n".join(
            f"INFO request_id={name} status=200 duration_ms={number(1, 900)}" for name in ids(8)
        ),
        "\n".join(f'{{"id": "{name}", "parent": null}}' for name in ids(8)),
        f"<img src='data:image/png;base64,{image}'>",
        f"image: registry.internal/app@sha256:{sha('sha256')}\nreplicas: {number(1, 9)}\n",
        "id,value,count\n" + "\n".join(rows),
        "\n".join(f"{time} {time // 1000} {time // 10**6}" for time in times),
        "\n".join(f"-{number(10**7, 10**10)}\n+{number(10**7, 10**10)}" for _ in range(8)),
        "\n".join(
            f"+{number(2020, 2026)}-0{number(1, 9)}-1{number(0, 9)} 12:00:0{number(0, 9)}"
            for _ in range(8)
        ),
        "\n".join(f"{number(0, 2**32):08x}: {sha('md5')[:32]}" for _ in range(8)),
        "\n".join(
            f"10.{number(0, 255)}.{number(0, 255)}.{number(0, 255)}:{number(1024, 9999)}"
            for _ in range(12)
        ),
        f"{number(10**9, 10**12)} of {number(10**12, 10**15)} bytes, {random.random():.3%}",
        (
            f"order {number(10**8, 10**9)} of 2024-0{number(1, 9)}-11\n"
            f"invoice {number(10**6, 10**8)}-{number(10, 99)}"
        ),
        (
            "OPENAI_API_KEY=<your key>\nANTHROPIC_API_KEY=${ANTHROPIC_API_KEY}\n"
            "API_TOKEN=changeme\nPASSWORD=xxxxxxxx\n"
        ),
        'export GITHUB_TOKEN="$(gh auth token)"\ncurl -H "Authorization: Bearer $GITHUB_TOKEN" https://api.github.com',
        (
            "api_key = os.environ['SERVICE_API_KEY']\n"
            "secret = settings.secrets.lookup('database/primary')\n"
        ),
        (
            "tokens = tokenizer.encode(text)\nnext_token = tokens[position + 1]\n"
            "key = sorted(keys, key=len)[0]\n"
        ),
        f"const key_id = '{ids(1)[0]}';\nconst cacheKey = `user:${{id}}:profile`;\n",
        f"psql -h db -U app -c 'select {number(10**8, 10**9)} % {number(10**5, 10**6)}'",
        "\n".join(
            f"{random.uniform(-90, 90):.6f}, {random.uniform(-180, 180):.6f}" for _ in range(10)
        ),
        "\n".join(
            f"v{number(0, 20)}.{number(0, 40)}.{number(0, 9)}-rc.1+{number(10**7, 10**8)}"
            for _ in range(6)
        ),
        (
            f"ISBN 978-3-16-{number(10**5, 10**6)}-0, EAN {number(4 * 10**12, 5 * 10**12)}, "
            f"part no. {number(10**6, 10**7)}A"
        ),
    ]
