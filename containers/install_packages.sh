#!/bin/sh
# Installs what the package needs into /opt/venv at the versions of requirements.lock, with the PyTorch named in $1
# (cuda, cpu, pypi-cpu). A step of the Dockerfile; run in the folder of the lock file.
set -eu
torch=$1
uv=/opt/uv/bin/uv
site=$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

backend= excluded=excluded.txt
: >$excluded
case $torch in
    cuda) ;;
    cpu) backend='--torch-backend cpu' ;;
    # Only what PyTorch opens when it is needed, and on a CPU never is: compilers of GPU code and their bindings, solvers.
    pypi-cpu) printf '%s\n' triton cuda-bindings cuda-pathfinder nvidia-cusolver nvidia-nvtx nvidia-cuda-cccl >$excluded ;;
    *) echo "TORCH=$torch: must be cuda, cpu or pypi-cpu" >&2 && exit 2 ;;
esac

# shellcheck disable=SC2086
$uv pip compile --quiet --no-cache --python /opt/venv/bin/python $backend --no-header --no-annotate \
    --constraints requirements.lock --excludes $excluded --output-file runtime.txt pyproject.toml
# shellcheck disable=SC2086
$uv pip install --quiet --no-cache --compile-bytecode --python /opt/venv/bin/python $backend --no-deps -r runtime.txt

# Headers and static libraries are for compilers, of which there is none.
rm -rf "$site/torch/include" "$site/torch/share" "$site"/nvidia/*/include
find "$site/torch" "$site/nvidia" -name '*.a' -delete 2>/dev/null || true
if [ "$torch" = pypi-cpu ]; then
    # Parts of cuDNN, cuBLAS and the run-time compiler that are opened by the first kernel on a GPU.
    find "$site/nvidia" \( -name 'libcudnn_*.so*' -o -name 'libnvrtc-builtins*' -o -name 'libnvperf*' \) -delete
fi
/opt/venv/bin/python -c 'import torch; print("torch", torch.__version__); assert float((torch.ones(2, 2) @ torch.ones(2, 2)).sum()) == 8'
