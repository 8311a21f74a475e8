#!/usr/bin/env bash
# Makes .tools/bin/nextflow, a launcher of Nextflow >= 25.04: the one on PATH, else the official installer's, else
# release 25.04.4 put together from the jars on Maven Central (scripts/nextflow.jars). Does nothing if it is there.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
root=$PWD
tools=$root/.tools
launcher=$tools/bin/nextflow
oldest=25.04.0

if [ -x "$launcher" ]; then exit 0; fi

java=${JAVA_HOME:-}/bin/java
if ! [ -x "$java" ]; then java=$(command -v java || true); fi
if [ -z "$java" ]; then
    echo "Java 17 or newer is needed by Nextflow and was not found: install one (Debian: openjdk-17-jre-headless) or set JAVA_HOME." >&2
    exit 2
fi
java_version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
if [ "${java_version:-0}" -lt 17 ]; then
    echo "Java 17 or newer is needed by Nextflow; $java is version ${java_version:-unknown}. Set JAVA_HOME to a newer one." >&2
    exit 2
fi

# True if the nextflow named in $1 runs and is not older than $oldest.
new_enough() {
    local version
    version=$(NXF_OFFLINE=true NXF_ANSI_LOG=false "$1" -v 2>/dev/null | sed -n 's/.*version \([0-9][0-9.]*\).*/\1/p') || return 1
    [ -n "$version" ] && [ "$(printf '%s\n' "$oldest" "$version" | sort -V | head -n 1)" = "$oldest" ]
}

# Writes the launcher: no plugins and no network unless the caller says otherwise, then $1. The strict parser (v2) stays
# off where it is not the default: until 26.04 it leaves ext.args out of a task's hash (nextflow issue 6695), so that
# -resume would give old results. `nextflow lint` uses it always.
write_launcher() {
    mkdir -p "$tools/bin"
    cat >"$launcher.new" <<LAUNCHER
#!/usr/bin/env bash
# Made by scripts/get_nextflow.sh.
export NXF_OFFLINE=\${NXF_OFFLINE:-true} NXF_PLUGINS_DEFAULT=\${NXF_PLUGINS_DEFAULT:-false}
if [ -z "\${NXF_ANSI_LOG:-}" ]; then [ -t 1 ] && export NXF_ANSI_LOG=true || export NXF_ANSI_LOG=false; fi
$1
LAUNCHER
    chmod +x "$launcher.new"
    mv "$launcher.new" "$launcher"
}

on_path=$(command -v nextflow || true)
if [ -n "$on_path" ] && new_enough "$on_path"; then
    echo "Nextflow: $on_path"
    write_launcher "exec '$on_path' \"\$@\""
    exit 0
fi

mkdir -p "$tools"
if command -v curl >/dev/null && curl -fsSL --connect-timeout 5 --max-time 60 https://get.nextflow.io -o "$tools/installer.sh" 2>/dev/null; then
    mkdir -p "$tools/official"
    if (cd "$tools/official" && NXF_HOME=$tools/official timeout 300 bash "$tools/installer.sh" >/dev/null 2>&1) \
        && NXF_HOME=$tools/official new_enough "$tools/official/nextflow"; then
        echo "Nextflow: installed by its official installer"
        write_launcher "export NXF_HOME='$tools/official'
exec '$tools/official/nextflow' \"\$@\""
        exit 0
    fi
fi

echo "Nextflow: downloading release 25.04.4 (57 jars, 31 MB)"
scripts/setup.sh
.venv/bin/uv run --quiet --no-project --python .venv/bin/python --script scripts/get_nextflow.py "$tools/nextflow"
# The options are those of Nextflow's own launcher.
opens=$(for name in java.lang java.io java.nio java.net java.util java.util.concurrent.locks java.util.concurrent.atomic java.nio.file.spi; do
    printf -- '--add-opens=java.base/%s=ALL-UNNAMED ' "$name"
done)
opens+=$(for name in sun.nio.ch sun.nio.fs sun.net.www.protocol.http sun.net.www.protocol.https sun.net.www.protocol.ftp sun.net.www.protocol.file jdk.internal.misc jdk.internal.vm; do
    printf -- '--add-opens=java.base/%s=ALL-UNNAMED ' "$name"
done)
write_launcher "java=java
if [ -x \"\${JAVA_HOME:-}/bin/java\" ]; then java=\$JAVA_HOME/bin/java; fi
export NXF_CLI=\"nextflow \$*\"
# shellcheck disable=SC2086
exec \"\$java\" -XX:+TieredCompilation -XX:TieredStopAtLevel=1 -Dfile.encoding=UTF-8 -Djava.net.preferIPv4Stack=true -Djava.awt.headless=true $opens \\
    \${NXF_JVM_ARGS:-} \${NXF_OPTS:-} -cp '$tools/nextflow/*' nextflow.cli.Launcher \"\$@\""
"$launcher" -v
