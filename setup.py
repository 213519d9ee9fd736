import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def read_version() -> str:
    """The version, read without importing the package: its dependencies are not installed yet."""
    found = re.search(r'^__version__ = "([^"]+)"$', (HERE / "broker" / "__init__.py").read_text("utf-8"), re.M)
    if found is None:
        raise SystemExit("broker/__init__.py has no __version__ line")
    return found[1]


setup(
    name="broker",
    version=read_version(),
    description="A Twisted broker in which IoT devices of four protocols meet applications of every kind",
    author="The broker authors",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    # "twisted.plugins" is named because it must have no __init__.py, and find_packages sees only folders with one.
    packages=[*find_packages(include=["broker", "broker.*"]), "twisted.plugins"],
    package_data={
        "broker": [
            "py.typed",
            "applications/http/console/*",
            "applications/http/console/*/*",
            "storage/redis/lua/*.lua",
        ]
    },
    zip_safe=False,
    entry_points={"console_scripts": ["broker-admin=broker.admin.cli:main"]},
    install_requires=[
        "twisted[tls,websocket]>=26.10,<27",
        "pyopenssl>=26,<27",
        "service-identity>=24,<27",
        "zope.interface>=8,<9",
        # the WebSocket handshake and frames; twisted[websocket] brings the same
        "h11>=0.14,<1",
        "wsproto>=1.2,<2",
        # files that are uploaded as multipart/form-data
        "python-multipart>=0.0.34,<0.1",
        "txredisapi>=1.6,<2",
        "hiredis>=3,<4",
        "msgspec>=0.20,<1",
        "cryptography>=46,<51",
        "prometheus_client>=0.26,<1",
        # tables and progress bars of broker-admin and the demo
        "rich>=14,<16",
        # time zones, for machines that have none of their own
        "tzdata>=2025.1",
    ],
    extras_require={
        "test": [
            "hypothesis>=6.100,<7",
            "paho-mqtt>=2,<3",
            "aiomqtt>=2.5,<3",
            # motes of somebody else
            "pamoja-lorawan>=0.1.17,<0.2",
            # validates the OpenAPI document
            "openapi-spec-validator>=0.7,<1",
            # drives Chromium, which is Debian's
            "playwright>=1.60,<2",
            # reads deploy/compose.yaml
            "pyyaml>=6,<7",
            # what the examples of plugins work with: requests and answers, and a server of somebody else; a client
            "pymodbus>=3.16,<4",
            "nats-py>=2.16,<3",
            # a mail server of somebody else
            "aiosmtpd>=1.4.6,<2",
            "coverage>=7.10,<8",
            # tests/test_packaging.py builds the wheel without a network, and follows what it asks for
            "setuptools>=77",
            "packaging>=24",
        ],
        # `make docs`, and the test that builds the manual
        "docs": [
            "sphinx>=9.0,<10",
            "myst-parser>=5,<6",
            "furo>=2025.12",
        ],
        "dev": [
            "mypy>=2.4,<3",
            "mypy-zope>=1.0.17,<2",
            "types-PyYAML>=6,<7",
            "ruff>=0.17,<0.18",
            # faults in the code, and known ones of what it depends on (`make audit`)
            "bandit>=1.9,<2",
            "pip-audit>=2.10,<3",
        ],
    },
    classifiers=[
        "Framework :: Twisted",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    ],
)
