"""Settings of a translation service. They are the flags of `hat-ray serve`."""

from pydantic import Field

from hat_ray.core.config import StageConfig


class ServeConfig(StageConfig):
    """Where a service listens, how many replicas translate, and what one request may ask for."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback lets whoever reaches it translate, without a password."""

    port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""

    route: str = Field(default="/", pattern=r"^/(.*[^/])?$")
    """Path that the service answers under: several models on one cluster need several."""

    name: str = Field(default="hat-ray", min_length=1)
    """The application's name on the cluster; a service of the same name is replaced."""

    replicas: int = Field(default=1, ge=1)
    """Processes that hold the model and translate."""

    fronts: int = Field(default=1, ge=1)
    """Processes that read requests and pass them on; when one is lost, the requests that it was answering are."""

    threads: int = Field(default=1, ge=1)
    """CPUs reserved for each replica, and threads that it computes with."""

    max_batch: int = Field(default=32, ge=1)
    """Texts of all clients that are translated together, at most."""

    wait_ms: float = Field(default=2.0, ge=0)
    """Milliseconds for which an idle replica waits for more texts before it begins; a busy one takes all that came
    meanwhile."""

    max_texts: int = Field(default=64, ge=1)
    """Texts of one request, at most."""

    max_body_bytes: int = Field(default=1 << 18, ge=1)
    """Bytes of one request, at most."""

    receive_s: float = Field(default=10.0, gt=0)
    """Seconds within which a client must have sent its request, or is answered with status 408."""

    allowed_hosts: tuple[str, ...] = ()
    """Names that clients may call this service by, beside addresses and localhost: those of a proxy before it. `*`: any
    name, at the cost of DNS rebinding."""

    max_waiting: int = Field(default=1000, ge=1)
    """Requests that one front lets wait for a replica; more are refused at once with status 503."""

    timeout_s: float = Field(default=60.0, gt=0)
    """Seconds after which a request is answered with status 504, replicas lost meanwhile included."""
