"""Settings of a translation service: the flags of `hat-ray serve`, and the arguments of its Ray Serve application."""

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from hat_ray.core.config import StageConfig


class AppConfig(StageConfig):
    """Number of replicas, its changes, and the bounds of a request."""

    replicas: int = Field(default=1, ge=1)
    """Processes that hold the model and translate. With max_replicas: the minimum."""

    max_replicas: int | None = Field(default=None, ge=1)
    """Maximum number of replicas under load. None: the number of replicas is fixed."""

    target_ongoing_requests: float = Field(default=16.0, gt=0)
    """Requests in progress for each replica that autoscaling aims at. More than that on average adds replicas."""

    upscale_delay_s: float = Field(default=30.0, ge=0)
    """Seconds of load above the target before autoscaling adds replicas."""

    downscale_delay_s: float = Field(default=600.0, ge=0)
    """Seconds of load below the target before autoscaling removes replicas."""

    ingress_replicas: int = Field(default=1, ge=1)
    """Processes that read requests and pass them on. A request is lost with the ingress that was answering it."""

    threads: int = Field(default=1, ge=1)
    """CPUs reserved for each replica, and threads that it computes with."""

    max_batch: int = Field(default=32, ge=1)
    """Maximum number of sentences, of all clients, that are translated together."""

    wait_ms: float = Field(default=2.0, ge=0)
    """Milliseconds for which an idle replica waits for more texts before it begins a batch."""

    split: bool = True
    """Translate texts by their sentences, where a request does not set it. A sentence that is too long is translated in
    parts in any case."""

    protect: bool = True
    """Bring URLs, numbers, placeholders and mark-up through unchanged, where a request does not set it and the model
    learned to."""

    glossary: str | None = Field(default=None, min_length=1)
    """File of fixed terms: lines of a term, a tab, its translation. Every node must reach it. A replica reads it when
    it starts."""

    max_terms: int = Field(default=100, ge=0, le=10_000)
    """Maximum number of terms of a request's own glossary. 0: requests may bring none."""

    max_texts: int = Field(default=64, ge=1)
    """Maximum number of texts in one request. It may have as many tokens as this number of the longest sentences."""

    max_body_bytes: int = Field(default=1 << 18, ge=1)
    """Maximum number of bytes of one request."""

    max_beam: int = Field(default=10, ge=1, le=1_000)
    """Largest beam, and largest number of translations of a text, that a request may ask for."""

    max_length_factor: float = Field(default=4.0, gt=0, le=1_000)
    """Largest number of tokens of a translation for each of its source that a request may ask for."""

    receive_s: float = Field(default=10.0, gt=0)
    """Seconds within which a client must have sent its request. A slower one is answered with status 408."""

    allowed_hosts: tuple[str, ...] = ()
    """Host names of this service beside addresses and localhost: those of a proxy before it. `*`: any name, at the cost
    of DNS rebinding."""

    max_waiting: int = Field(default=1000, ge=1)
    """Requests of one ingress that may wait for a replica. More are refused at once with status 503."""

    timeout_s: float = Field(default=60.0, gt=0)
    """Seconds after which a request is answered with status 504, lost replicas included."""

    graceful_shutdown_timeout_s: float | None = Field(default=None, ge=0)
    """Seconds that a replica which ends has to finish its requests. None: timeout_s."""

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        """Accept `a,b`, which is how a command line writes several names in one argument."""
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas must be at least replicas={self.replicas}, got {self.max_replicas}")
        if self.glossary is not None and not self.protect:
            raise ValueError("a glossary needs protect: leave glossary out, or let protect be true")
        return self

    @property
    def most_replicas(self) -> int:
        """Return the largest number of replicas that autoscaling may start."""
        return self.max_replicas or self.replicas

    @property
    def shutdown_s(self) -> float:
        """Return the seconds that a replica has to finish its requests."""
        return self.timeout_s if self.graceful_shutdown_timeout_s is None else self.graceful_shutdown_timeout_s


class ServeConfig(AppConfig):
    """A service that `hat-ray serve` starts: an application, and where it listens."""

    host: str = "127.0.0.1"
    """Address to listen on. Every client that reaches one other than loopback may translate, without a password."""

    port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""

    route: str = Field(default="/", pattern=r"^/(.*[^/])?$")
    """Path of the service. Several models on one cluster need several paths."""

    name: str = Field(default="hat-ray", min_length=1)
    """Name of the application on the cluster. It replaces a service of the same name."""


class ServeArgs(AppConfig):
    """Arguments of the application builder `hat_ray.cluster.serve:app`: an application, and its model."""

    place: str = Field(min_length=1)
    """Run folder or exported folder: an absolute path or a URI that every node reaches."""

    model: str | None = None
    """Id of a run's retrained model. None: the first winner."""

    beam: int | None = Field(default=None, ge=1)
    """Hypotheses kept by beam search. None: those of the recipe or export."""

    runtime: str | None = None
    """Runtime of a run's model. None: the fastest that executes it."""

    dtype: str | None = None
    """Number format of a run's model. None: fp32."""

    short_list: int | None = Field(default=None, ge=0)
    """Target words listed for each source word, by runtime onnx. None or 0: all words may follow."""
