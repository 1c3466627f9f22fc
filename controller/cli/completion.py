"""`completion`: scripts that complete commands and options, for bash, zsh and fish.

Everything they know is written into them, so that a TAB starts no interpreter.
"""

from collections.abc import Callable, Mapping, Sequence

import click

from controller.cli.commands import COMMANDS, main

_BASH = r"""# windlass: completion for bash; put `source <(windlass completion bash)` into ~/.bashrc
_windlass() {
  # bash splits words at `:` and `=`, and commands have a `:`: take the words of the line itself
  local line="${COMP_LINE:0:COMP_POINT}" word="" command="" options="" cut=0
  local -a words=()
  read -r -a words <<< "$line"
  [[ "$line" == *[[:space:]] ]] && words+=("")
  local count=${#words[@]}
  word="${words[count-1]}"
  command="${words[1]}"
  COMPREPLY=()
  case "$command" in
    @GROUPS@)
      if (( count == 3 )); then
        COMPREPLY=($(compgen -W "@NAMES@" -- "$command:$word"))
        COMPREPLY=("${COMPREPLY[@]#"$command":}")
        return
      fi
      command="$command:${words[2]}" ;;
  esac
  if (( count == 2 )); then
    COMPREPLY=($(compgen -W "@NAMES@" -- "$word"))
    if [[ "$COMP_WORDBREAKS" == *:* && "$word" == *:* ]]; then
      cut="${word%"${word##*:}"}"
      COMPREPLY=("${COMPREPLY[@]#"$cut"}")
    fi
    return
  fi
  case "$command" in
@CASES@
  esac
  if [[ "$word" == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$word"))
  fi
}
complete -o default -F _windlass windlass systemprompt
"""
_ZSH = r"""#compdef windlass systemprompt
# windlass: completion for zsh; after compinit, in ~/.zshrc: source <(windlass completion zsh)
_windlass() {
  local command="${words[2]}"
  local -a options names
  names=(@NAMES@)
  if (( CURRENT == 2 )); then
    compadd -a names
    return
  fi
  case "$command" in
    @GROUPS@)
      if (( CURRENT == 3 )); then
        names=(${(M)names:#$command:*})
        compadd -- ${names#$command:}
        return
      fi
      command="$command:${words[3]}" ;;
  esac
  case "$command" in
@CASES@
  esac
  if [[ "${words[CURRENT]}" == -* ]]; then
    compadd -- ${=options}
  else
    _files
  fi
}
if [[ "${funcstack[1]}" == _windlass ]]; then
  _windlass "$@"
else
  compdef _windlass windlass systemprompt
fi
"""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell; for bash: source <(windlass completion bash)."""
    scripts: Mapping[str, Callable[[], str]] = {
        "bash": lambda: _filled(_BASH),
        "zsh": lambda: _filled(_ZSH),
        "fish": _fish,
    }
    click.echo(scripts[shell](), nl=False)


def _options(name: str) -> Sequence[click.Option]:
    context = click.Context(main, **main.context_settings)
    command = main.get_command(context, name)
    params = (
        command.get_params(click.Context(command, parent=context)) if command is not None else []
    )
    return [each for each in params if isinstance(each, click.Option)]


def _filled(script: str) -> str:
    """A script with the commands and their options in it."""
    groups = sorted({name.partition(":")[0] for name in COMMANDS if ":" in name})
    flags = {
        name: " ".join(flag for each in _options(name) for flag in each.opts) for name in COMMANDS
    }
    cases = "\n".join(f'    {name}) options="{known}" ;;' for name, known in flags.items())
    parts = {"GROUPS": "|".join(groups), "NAMES": " ".join(COMMANDS), "CASES": cases}
    for part, text in parts.items():
        script = script.replace(f"@{part}@", text)
    return script


def _fish() -> str:
    """One line a command, and one an option."""
    lines = [
        "# windlass: completion for fish; put it into ~/.config/fish/completions/windlass.fish",
        "complete -c systemprompt -w windlass",
    ]
    for name, (_, what) in COMMANDS.items():
        first = "complete -c windlass -n __fish_use_subcommand -f"
        lines.append(f"{first} -a {_quoted(name)} -d {_quoted(what)}")
    for name in COMMANDS:
        inside = f"complete -c windlass -n {_quoted(f'__fish_seen_subcommand_from {name}')}"
        for option in _options(name):
            flags = " ".join(
                f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
                for flag in option.opts
            )
            takes = "" if option.is_flag else " -r"
            lines.append(f"{inside} {flags}{takes} -d {_quoted(option.help or '')}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
