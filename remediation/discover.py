"""The door `embedding-integrity discover`: a settings file, with `--probe` by a provider's answers.

Thin: `checks.discover` prints what is guessed, `remediation.run.text_probe` asks. Writes to no
database.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from checks.discover import VARIABLE, discover
from checks.door import DoorParser, environment_here
from checks.redaction import for_terminal
from checks.tracebacks import bare

if TYPE_CHECKING:
    import argparse

    from checks.database.connection import ConnectionTarget
    from checks.discovery.survey import Survey


@bare
def main(arguments: list[str] | None = None) -> int:
    """Print the file on standard output, or why there is none on standard error."""
    parser = DoorParser(
        "discover", f"Print an integrity.toml for the database of {VARIABLE}. Writes nothing."
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="embed a few healthy rows again with their tenants' keys, and print the text that"
        " agrees with the stored vectors; what it takes at most is said before",
    )
    parser.add_argument(
        "--model", metavar="NAME", help="the model, where neither rows nor dimensions tell it"
    )
    parser.add_argument(
        "--fallback-env",
        metavar="NAME",
        help="with --probe: the variable of a key for tenants without their own, such as"
        " OPENAI_API_KEY; printed in [keys], never used unless it is named",
    )
    options = parser.parse_args(arguments)
    if options.fallback_env is not None and not options.probe:
        parser.error("--fallback-env needs --probe: nothing else asks a provider")
    return discover(
        lambda found, place: _probe(options, found, place),
        model=options.model,
        fallback_env=options.fallback_env,
    )


def _probe(options: argparse.Namespace, found: Survey, place: ConnectionTarget) -> None:
    if not options.probe:
        return
    # Asking a provider alone needs the import of openai, which is most of what a start takes.
    from remediation.run.text_probe import TextProbe

    TextProbe(
        survey=found,
        place=place,
        environment=environment_here(),
        say=lambda words: print(for_terminal(words), file=sys.stderr),
    ).run()


if __name__ == "__main__":
    sys.exit(main())
