"""Which platform a command works on: the options before the command, as `phaseflow --context NAME COMMAND`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cli.kubernetes.cluster import KubernetesPlatform
from cli.kubernetes.kube import DEFAULT, Release
from cli.local.this_machine import LocalPlatform
from cli.platforms import Platform
from phaseflow.errors import PermanentError

LOCAL: Final = "local"
"""Name of the context that is this machine."""
LIST_CONTEXTS: Final = "`kubectl config get-contexts` lists the contexts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The options that all commands share. `typer.Context.obj` holds them."""

    context: str = LOCAL
    namespace: str = DEFAULT
    release: str = DEFAULT

    @property
    def local(self) -> bool:
        """Whether the platform is this machine's."""
        return self.context in {"", LOCAL}

    def platform(self) -> Platform:
        """The selected platform. Nothing is contacted yet."""
        return LocalPlatform() if self.local else KubernetesPlatform(self._release())

    def require_local(self, command: str, *, fix: str) -> None:
        """Raise PermanentError if the command is called with a cluster; `{0}` in `fix` selects the cluster."""
        if not self.local:
            raise PermanentError(
                f"`phaseflow {command}` works on this machine only, and the context is {self.context!r}",
                fix=fix.format(self._release().command),
            )

    def require_cluster(self, command: str) -> Release:
        """The selected release. Raises PermanentError if the platform is this machine's."""
        if self.local:
            raise PermanentError(
                f"`phaseflow {command}` works on a Kubernetes cluster only",
                fix=f"Name its context: `phaseflow --context NAME {command}`. {LIST_CONTEXTS}",
            )
        return self._release()

    def refuse_cluster_options(self, command: str, options: Mapping[str, object]) -> None:
        """Raise PermanentError if an option that only a cluster has is set for this machine."""
        for option, value in options.items():
            if self.local and value:
                raise PermanentError(
                    f"{option} of `phaseflow {command}` applies to a Kubernetes cluster only",
                    fix=f"Name its context: `phaseflow --context NAME {command} {option}`. {LIST_CONTEXTS}",
                )

    def _release(self) -> Release:
        return Release(name=self.release, namespace=self.namespace, context=self.context)
