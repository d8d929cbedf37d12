"""What the comparisons with other programs share: the Python that runs the peers, single timed runs, and the machine's name."""

import json
import os
import pathlib
import platform
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = "bench/" + pathlib.Path(sys.argv[0]).name


def fail(message):
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    sys.exit(2)


def note(message):
    print(message, file=sys.stderr)


def peer_python(given, packages):
    """The Python of bench/.venv, with these packages; or the one that was given."""
    if given:
        return given
    python = HERE / ".venv/bin/python"
    ready = HERE / ".venv/ready"
    # One line for each set of packages that is installed.
    done = ready.read_text().splitlines() if ready.exists() else []
    if " ".join(packages) not in done:
        note(f"installing {', '.join(packages)} into {HERE / '.venv'}, once")
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(HERE / ".venv")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        ready.write_text("\n".join([*done, " ".join(packages)]) + "\n")
    return str(python)


def timed(command):
    """The JSON of the last line that a program prints."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        fail(f"`{' '.join(command)}` failed:\n{result.stderr.strip()}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def output(*command):
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    return result.stdout.strip()


def commit():
    return output("git", "rev-parse", "--short", "HEAD") + ("-dirty" if output("git", "status", "--porcelain") else "")


def machine():
    """Name of the processor, and which of the instructions that matter it has."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(fields.get("flags", "").split())
    has = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{fields.get('model name', 'unknown')} (family {fields.get('cpu family', '?')}), {os.cpu_count()} cores, {' '.join(has)}"


def command_line():
    return f"{PROGRAM} {' '.join(sys.argv[1:])}".rstrip()


def write(path, text):
    partial = pathlib.Path(str(path) + ".partial")
    partial.write_text(text)
    partial.rename(path)
