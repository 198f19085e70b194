"""Words that people bring from compose, docker and config.json: what to write in their place."""

from __future__ import annotations

SYNONYMS = {
    "args": "command",
    "capabilities": "cap_add",
    "caps": "cap_add",
    "cmd": "command",
    "cpu": "cpus",
    "cpu_limit": "cpus",
    "cwd": "working_dir",
    "env": "environment",
    "from": "image",
    "groups": "group_add",
    "health": "healthcheck",
    "limits": "ulimits",
    "memory": "mem_limit",
    "memory_limit": "mem_limit",
    "memory_swap": "memswap_limit",
    "mounts": "volumes",
    "network": "network_mode",
    "pids": "pids_limit",
    "readonly": "read_only",
    "rlimits": "ulimits",
    "seccomp_profile": "seccomp",
    "shm": "shm_size",
    "sysctl": "sysctls",
    "userns_mode": "userns",
    "workdir": "working_dir",
}
"""Other words for keys, so that a misspelt one leads to the key too."""

FOREIGN = {
    "build": "images are not built here: name one with `image`",
    "cap_drop": "all capabilities are dropped already; name those to keep in `cap_add`",
    "configs": "mount the file: `volumes: [./FILE:/PATH:ro]`",
    "container_name": "the file is the name: specs/NAME.yaml",
    "depends_on": "one file describes one bundle; whatever starts bundles knows their order",
    "deploy": "limits are keys of their own: mem_limit, cpus, pids_limit",
    "hooks": "hooks would run programs of the host as root, so there are none",
    "ipc": "each bundle has an ipc namespace of its own",
    "links": "one file describes one bundle: there is no other to link to",
    "name": "the file is the name: specs/NAME.yaml",
    "networks": "write `network_mode: private`, `none` or `host`",
    "pid": "each bundle has a pid namespace of its own",
    "privileged": "name what is needed instead: cap_add, devices, volumes",
    "secrets": "mount the file: `volumes: [./FILE:/run/secrets/NAME:ro]`",
    "security_opt": "noNewPrivileges is always on; the profile is in `seccomp`",
    "services": "one file describes one service: its keys stand at the top",
    "version": "a spec has no version",
}
"""Keys of compose that have no counterpart: what does their work here."""
