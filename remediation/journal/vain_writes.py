"""What earlier runs wrote in vain: checks that their writes did not heal, or broke. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENT = "in_vain"


@dataclass(frozen=True, kw_only=True, slots=True)
class VainWrites:
    """Of one table in one run."""

    table: str
    unhealed: tuple[str, ...]
    """Checks that rows still failed after they were written."""
    broke: tuple[str, ...]
    """Checks that rows failed since they were written, and did not before."""
    circumstances: str
    """A hash of what decides whether a further write is in vain too."""
    reason: str
    run_id: str = ""

    @property
    def entry(self) -> dict[str, Any]:
        """As the journal has it."""
        return {
            "event": EVENT,
            "table": self.table,
            "unhealed": self.unhealed,
            "broke": self.broke,
            "circumstances": self.circumstances,
            "reason": self.reason,
        }

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any], run_id: str) -> VainWrites:
        """What `entry` told of. Raises LookupError and TypeError for a damaged one."""
        return cls(
            table=entry["table"],
            unhealed=tuple(entry["unhealed"]),
            broke=tuple(entry["broke"]),
            circumstances=entry["circumstances"],
            reason=entry["reason"],
            run_id=run_id,
        )

    def disproved_by(self, checks: tuple[str, ...]) -> bool:
        """Whether a row that failed these checks and was fixed shows that writes help again."""
        return bool(self.broke) or not set(self.unhealed).isdisjoint(checks)

    @property
    def words(self) -> str:
        """Why nothing is asked for, as long as the circumstances are the same."""
        return (
            f"nothing is asked for, as the table's triggers and settings are as in run"
            f" {self.run_id}, which wrote in vain (--retry-quarantined tries again): {self.reason}"
        )
