#!/usr/bin/env bash
# All packages have one version, that of the tag: check_tag.sh vX.Y.Z fails where one of them has another.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=${1#v}
for file in packages/*/pyproject.toml; do
    found=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$file")
    [ "$found" = "$wanted" ] || { echo "$file has version $found, and the tag is $1" && exit 1; }
done
grep -q "^## $wanted " CHANGELOG.md || { echo "CHANGELOG.md has no section $wanted" && exit 1; }
echo "all packages have version $wanted"
