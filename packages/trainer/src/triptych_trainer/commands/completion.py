"""``triptych completion SHELL``: print what a shell reads to complete commands and options."""

import importlib
from collections.abc import Sequence

from triptych_data.option_parser import OptionParser, option_names
from triptych_data.outcome import outcome

from triptych_trainer.errors import UsageError

__all__ = ["main", "parser"]

SHELLS = ("bash", "zsh", "fish")
BASH = """\
_triptych() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} command=train known=
    [ "${{COMP_WORDS[0]##*/}}" = triptych ] && command=${{COMP_WORDS[1]}}
    if [ "${{COMP_WORDS[0]##*/}}" = triptych ] && [ "$COMP_CWORD" -eq 1 ]; then
        known="{commands}"
    else
        case $command in
{cases}
        esac
        [[ $word == -* ]] || return
    fi
    COMPREPLY=($(compgen -W "$known" -- "$word"))
}}
complete -o default -F _triptych triptych train
"""
ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def parser() -> OptionParser:
    """Return the command's parser."""
    made = OptionParser(
        prog="triptych completion",
        usage="triptych completion SHELL",
        description="Print what a shell reads to complete commands and options, of TRL too.",
        epilog="It takes some seconds, so write it to a file once, after each update. bash: triptych completion bash > "
        "~/.triptych.bash, and `source ~/.triptych.bash` in ~/.bashrc; zsh: the same with its names; fish: triptych "
        "completion fish > ~/.config/fish/completions/triptych.fish",
    )
    made.add_argument("shell", metavar="SHELL", help=", ".join(SHELLS))
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after one line that says what is wrong."""
    return outcome("triptych completion", lambda: _print(parser().parse_args(argv).shell))


def _print(shell: str) -> int:
    if shell not in SHELLS:
        raise UsageError(f"expected one of {', '.join(SHELLS)}, got {shell!r}")
    options = _options()
    if shell == "fish":
        print(_fish(options), end="")
        return 0
    cases = "\n".join(f'        {name}) known="{" ".join(names)}" ;;' for name, names in options.items())
    print((ZSH if shell == "zsh" else "") + BASH.format(commands=" ".join(options), cases=cases), end="")
    return 0


def _options() -> dict[str, list[str]]:
    """The options of every command; those of a run with all of TRL's."""
    from triptych_trainer.options.arguments import run_parser
    from triptych_trainer.options.help import PARSERS
    from triptych_trainer.options.sft_arguments import sft_parser

    of_run = ["--config", *option_names(run_parser())]  # TRL's parser reads --config before the others
    of_trl = {"train": of_run, "plan": of_run, "sft": ["--config", *option_names(sft_parser())]}
    found = {}
    for name, module in PARSERS.items():
        own = option_names(importlib.import_module(module).parser())
        found[name] = sorted({*own, *of_trl.get(name, ())})
    return found


def _fish(options: dict[str, list[str]]) -> str:
    lines = [f"complete -c triptych -n __fish_use_subcommand -f -a '{' '.join(options)}'"]
    for name, names in options.items():
        for option in names:
            word = option.removeprefix("--")
            lines.append(f"complete -c triptych -n '__fish_seen_subcommand_from {name}' -l {word}")
            if name == "train":
                lines.append(f"complete -c train -l {word}")
    return "\n".join(lines) + "\n"
