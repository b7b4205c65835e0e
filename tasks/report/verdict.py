"""The verdict on a scan: what became of every frame, and whether somebody has to look."""

from dataclasses import dataclass

from tasks.report.content import ReportContent

GOOD, ATTENTION, BAD = "good", "attention", "bad"


@dataclass(frozen=True)
class Verdict:
    """`text` says what became of the frames; `level` is "good", "attention" or "bad"; `problems` need a person."""

    text: str
    level: str
    problems: tuple[str, ...]


def judge(content: ReportContent) -> Verdict:
    """Add up the frames of a scan; frames that no state accounts for are lost."""
    counts = {state: content.frames.get(state, 0) for state in ("ingested", "quarantined", "double", "pending")}
    accounted = sum(counts.values())
    found = accounted if content.frames_found is None else content.frames_found
    problems = tuple(_problems(content, found, accounted))
    if not found and not accounted:
        return Verdict("No frames found", BAD, problems)
    parts = [f"{counts['ingested']:,} of {found:,} {'frame' if found == 1 else 'frames'} processed"]
    parts += [f"{counts[state]:,} {state}" for state in ("quarantined", "double", "pending") if counts[state]]
    parts.append(_balance(found - accounted))
    if content.unfamiliar:
        parts.append(f"{content.unfamiliar:,} unlike those that the model knows")
    if problems or not counts["ingested"]:
        level = BAD
    else:
        remarkable = (counts["quarantined"], counts["pending"], content.warnings, content.numbering_holes)
        level = ATTENTION if any(remarkable) or content.unfamiliar else GOOD
    return Verdict(", ".join(parts), level, problems)


def _balance(missing: int) -> str:
    if missing > 0:
        return f"{missing:,} lost"
    return f"{-missing:,} more than the source holds" if missing < 0 else "nothing lost"


def _problems(content: ReportContent, found: int, accounted: int) -> list[str]:
    problems = []
    if found != accounted:
        problems.append(f"The source holds {found:,} frames, the ledger accounts for {accounted:,}.")
    counted, listed = content.frames.get("quarantined", 0), len(content.quarantined)
    if counted != listed:
        problems.append(f"The ledger counts {counted:,} quarantined frames, but {listed:,} are listed with a reason.")
    return problems
