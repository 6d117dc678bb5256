"""Settings of what serves: hub, simulator, demo, keys.

Rule: as in `models`. Not here: what reads a hub (`reading`).
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from pydantic import ByteSize, Field, field_validator, model_validator
from pydantic_settings import CliPositionalArg

from rdahub.config.fields import (
    RECORDER_PORT,
    CommonSettings,
    Seconds,
    SecretFile,
    listen_address,
    recorder_address,
)
from rdahub.endpoints import beside
from rdahub_client.shared import default_directory


class ServeSettings(CommonSettings):
    """Run a hub: one connection to the Recorder, history, any number of readers."""

    recorder: str = Field(description="HOST[:PORT] of the Recorder; port 51244 if none is given")
    query: str = Field("tcp://127.0.0.1:5570", description="endpoint of the query socket; may end in :0")
    publish: str | None = Field(
        None, description="endpoint of the publish socket; by default the port after the query socket's"
    )
    history: Seconds = Field(600.0, description="how long samples are kept, e.g. 600s or 10min")
    history_bytes: ByteSize = Field(ByteSize(1 << 30), description="most memory for samples, e.g. 1GiB", gt=0)
    name: str = Field("rdahub", description="name of the hub on this machine, for LocalClient")
    shm_dir: Path = Field(
        default_factory=default_directory,
        description="folder of the shared memory; by default /dev/shm or else the temporary folder",
    )
    curve_key: SecretFile | None = Field(
        None, description="the hub's own .key_secret file: encrypt, and let in only known clients"
    )
    curve_clients: Path | None = Field(
        None,
        description="folder of the .key files of clients that are let in, and in its folder read-only of "
        "those that may not insert markers; may change at any time",
    )
    insecure: bool = Field(False, description="allow addresses other than loopback without encryption")
    metrics: str | None = Field(
        None, description="HOST:PORT of an endpoint for Prometheus; none by default, port 0 takes a free one"
    )

    announce: bool = Field(
        False, description="announce the hub by mDNS, where it listens, for `rdahub list` and auto"
    )

    archive: Path | None = Field(
        None, description="folder to keep the history in on disk, beyond memory and after the hub's end"
    )
    archive_reserve: ByteSize = Field(
        ByteSize(1 << 30), description="to leave free on that disk, e.g. 5GiB; archiving then stops", ge=0
    )
    rda_out: str | None = Field(
        None,
        description="HOST:PORT to serve RDA at, as it came from the Recorder; none by default, "
        "port 0 takes a free one",
    )

    @field_validator("metrics", "rda_out")
    @classmethod
    def _check_listen(cls, value: str | None) -> str | None:
        if value is not None:
            listen_address(value)
        return value

    @field_validator("recorder")
    @classmethod
    def _check_recorder(cls, value: str) -> str:
        recorder_address(value)
        return value

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
            raise ValueError("a name is 1 to 64 letters, digits, '-' and '_'")
        return value

    @field_validator("query", "publish")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        match = re.fullmatch(r"ipc://.+|tcp://.+:(\d{1,5}|\*)", value or "")
        if value is None or (match and int((match[1] or "0").replace("*", "0")) < 65536):
            return value
        raise ValueError(f"an endpoint is tcp://HOST:PORT or ipc://PATH, not {value!r}")

    @field_validator("curve_clients")
    @classmethod
    def _check_clients(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError("there is no such folder")
        return value

    @model_validator(mode="after")
    def _check_both(self) -> ServeSettings:
        if (self.curve_key is None) != (self.curve_clients is None):
            raise ValueError(
                "--curve-key and --curve-clients go together: the hub's secret key, and whom to let in"
            )
        if self.announce and not self.query.startswith("tcp://"):
            raise ValueError("--announce: only a hub at a tcp:// --query can be announced")
        if self.announce and find_spec("zeroconf") is None:
            raise ValueError("--announce needs zeroconf: pip install 'rdahub[zeroconf]'")
        if self.metrics and find_spec("prometheus_client") is None:
            raise ValueError("--metrics needs prometheus-client: pip install 'rdahub[metrics]'")
        return self

    def publish_endpoint(self) -> str:
        """The publish endpoint, derived from the query endpoint if not set."""
        return self.publish or beside(self.query)


class SimSettings(CommonSettings):
    """Run a simulator: an RDA server without an amplifier."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(RECORDER_PORT, description="port to listen on; 0 takes a free one", ge=0, lt=65536)
    int16: bool = Field(False, description="send int16 samples, as the Recorder's port 51234 does")
    channels: int = Field(32, description="number of channels of the synthetic signal", ge=1)
    rate: float = Field(
        1000.0, description="samples per second of the synthetic signal", gt=0, allow_inf_nan=False
    )
    block: int = Field(20, description="samples per block", ge=1)
    speed: float = Field(
        1.0, description="times real time; 0 is as fast as clients read", ge=0, allow_inf_nan=False
    )
    seconds: Seconds | None = Field(None, description="length of the synthetic signal; endless if not given")
    seed: int = Field(0, description="seed of the synthetic noise", ge=0)
    vhdr: Path | None = Field(None, description="BrainVision recording to replay")
    loop: bool = Field(False, description="start the recording over at its end")
    dump: Path | None = Field(None, description="captured RDA byte stream to replay")


class KeygenSettings(CommonSettings):
    """Make a CURVE key pair: NAME.key to hand out, NAME.key_secret to keep."""

    folder: CliPositionalArg[Path] = Field(description="folder for the two files")
    name: str = Field("rdahub", description="name of the key files")


class DemoSettings(CommonSettings):
    """Simulator, hub and live view in one command; Ctrl-C ends all."""

    seconds: Seconds | None = Field(None, description="end after this long; endless if not given")
    channels: int = Field(32, description="number of simulated channels", ge=1)
    rate: float = Field(1000.0, description="samples per second", gt=0, allow_inf_nan=False)
    query: str = Field("tcp://127.0.0.1:5570", description="endpoint of the query socket; may end in :0")
    name: str = Field("rdahub", description="name of the hub on this machine")
