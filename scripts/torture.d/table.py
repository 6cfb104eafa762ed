"""What was found, as a table and as a verdict. Values in, text out."""

from ends import ENDS, HELPER_ENDS, WORDS, asked, promised
from gateway import TREES


def cell(found, end, tree):
    rounds = found.rounds.get((end, tree), 0)
    if rounds == 0:
        return "-"
    count = found.survivors.get((end, tree), 0)
    return f"{rounds}:{count}{'' if promised(found.containment, end, tree) else '*'}"


def table(findings):
    heads = [found.name for found in findings]
    rows = [["end", "tree", *heads]]
    for end in ENDS:
        for tree in TREES:
            cells = [cell(found, end, tree) for found in findings]
            if set(cells) != {"-"}:
                rows.append([WORDS[end], tree, *cells])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [" | ".join(word.ljust(width) for word, width in zip(row, widths)) for row in rows]
    return "\n".join(f"| {line} |" for line in [lines[0], " | ".join("-" * width for width in widths), *lines[1:]])


def notes(findings):
    """What the table does not say by itself."""
    lines = ["Each cell is rounds:survivors."]
    if any(found.containment == "group" for found in findings):
        lines.append("* group promises nothing here: who left the group, or lost the gateway, is not held.")
    if any(not asked(end, found.containment) for found in findings for end in HELPER_ENDS):
        lines.append("- was not asked, or there is no such helper in that containment.")
    slowest = {}
    for found in findings:
        for end, seconds in found.slowest.items():
            if found.containment != "group":
                slowest[end] = max(slowest.get(end, 0), seconds)
    lines += [f"{WORDS[end]}: all over after {seconds * 1000:.0f} ms at most." for end, seconds in slowest.items()]
    return "\n".join(lines)


def verdict(findings, failures):
    """(lines, exit status). The last line counts those who were promised not to be."""
    survivors = [line for found in findings for line in found.told]
    litter = [line for found in findings for line in found.litter]
    odd = [line for found in findings for line in found.odd]
    lines = []
    for name, each in (("SURVIVOR", survivors), ("LEFT BEHIND", litter), ("WRONG", odd), ("FAILED", failures)):
        lines += [f"{name} {line}" for line in each[:20]]
        if len(each) > 20:
            lines.append(f"{name} and {len(each) - 20} more")
    calls = sum(found.calls for found in findings)
    lines.append(f"calls: {calls}, left behind: {len(litter)}, wrong: {len(odd) + len(failures)}")
    lines.append(f"survivors: {len(survivors)}")
    return lines, int(bool(survivors or litter or odd or failures))
