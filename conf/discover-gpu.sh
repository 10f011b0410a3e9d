#!/usr/bin/env bash
# The GPUs of this host, as Spark's discovery scripts say it: {"name": "gpu", "addresses": ["0", "1"]}.
#
# NVIDIA's are found by nvidia-smi, AMD's by amd-smi or rocm-smi. An address is the index by which CUDA or HIP know the card.
# Without a GPU the list is empty, and the reason is on standard error: Spark then says that there are fewer than were asked for,
# which is clearer than a script that has failed.
set -uo pipefail

nvidia() { nvidia-smi --query-gpu=index --format=csv,noheader | grep -Eo '^[0-9]+'; }
amd() { amd-smi list --csv | grep -Eo '^[0-9]+'; }
rocm() { rocm-smi --showid --csv | grep -Eo '^card[0-9]+' | grep -Eo '[0-9]+' | sort -nu; }

found=""
for tool in nvidia-smi:nvidia amd-smi:amd rocm-smi:rocm; do
    if command -v "${tool%:*}" >/dev/null && found=$("${tool#*:}") && [ -n "$found" ]; then break; fi
    found=""
done
[ -n "$found" ] || echo "discover-gpu.sh: nvidia-smi, amd-smi and rocm-smi are not on the PATH, or see no GPU on $(uname -n)" >&2

addresses=""
for address in $found; do addresses="$addresses${addresses:+, }\"$address\""; done
echo "{\"name\": \"gpu\", \"addresses\": [$addresses]}"
