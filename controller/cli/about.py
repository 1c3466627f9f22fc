"""`schema`, `completion`, `version`."""

import json

import click

from controller import __version__

_BASH = """# windlass: completion for bash; put `source <(windlass completion bash)` into ~/.bashrc
_windlass() {
  local word="${COMP_WORDS[COMP_CWORD]}" line="${COMP_LINE:0:COMP_POINT}" first
  # bash splits words at `:`, and commands have one: look at the line itself
  line="${line#* }"; first="${line%% *}"
  if [[ "$line" != *" "* ]]; then
    local prefix="${first%"${first##*:}"}"
    COMPREPLY=($(compgen -W "%s" -- "$first"))
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
  else
    local options
    options="$(${COMP_WORDS[0]} "$first" --help 2>/dev/null | grep -oE -- '--[a-z-]+')"
    COMPREPLY=($(compgen -W "$options" -f -- "$word"))
  fi
}
complete -o default -F _windlass windlass systemprompt
"""
_ZSH = """#compdef windlass systemprompt
# put `source <(windlass completion zsh)` into ~/.zshrc
_windlass() {
  if (( CURRENT == 2 )); then
    local -a names
    names=(%s)
    compadd -a names
  else
    compadd -- $(${words[1]} ${words[2]} --help 2>/dev/null | grep -oE -- '--[a-z-]+')
    _files
  fi
}
compdef _windlass windlass systemprompt
"""
_FISH = """# windlass: completion for fish; put it into ~/.config/fish/completions/windlass.fish
complete -c windlass -n __fish_use_subcommand -f -a "%s"
"""
_SHELLS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@click.command("schema")
def schema() -> None:
    """Print the JSON Schema of definitions, for editors."""
    from controller.core.schema import definition_schema  # noqa: PLC0415  # start-up time

    click.echo(json.dumps(definition_schema(), indent=2, ensure_ascii=False))


@click.command("completion")
@click.argument("shell", type=click.Choice(sorted(_SHELLS)))
def completion(shell: str) -> None:
    """Print the completion script of a shell; `source <(windlass completion bash)` uses it."""
    from controller.cli import COMMANDS  # noqa: PLC0415  # the group imports this module

    click.echo(_SHELLS[shell] % " ".join(COMMANDS), nl=False)


@click.command("version")
def version() -> None:
    """Print the version."""
    click.echo(f"windlass {__version__}")
