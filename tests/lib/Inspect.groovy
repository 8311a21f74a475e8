import groovy.json.JsonSlurper

/*
 * What is in a binary result, for assertions in .nf.test files: Inspect.file(path) of an h5ad, h5mu or parquet file.
 */
class Inspect {

    private static final String SCRIPT = '''
import json, sys
path = sys.argv[1]
if path.endswith(".parquet"):
    import pyarrow.parquet as pq
    # without threads, which may outlive so short a program and end it badly
    table = pq.ParquetFile(path).read(use_threads=False).to_pandas(use_threads=False)
    print(json.dumps({"rows": len(table), "columns": list(table.columns), "index": [str(i) for i in table.index[:3]]}))
else:
    import anndata, mudata, numpy as np
    def describe(a):
        return {"cells": a.n_obs, "features": a.n_vars, "obs": list(a.obs), "var": list(a.var),
                "layers": list(a.layers), "obsm": {k: list(v.shape) for k, v in a.obsm.items()},
                "finite": all(bool(np.isfinite(v).all()) for v in a.obsm.values())}
    if path.endswith(".h5mu"):
        print(json.dumps({name: describe(a) for name, a in mudata.read_h5mu(path).mod.items()}))
    else:
        print(json.dumps(describe(anndata.read_h5ad(path))))
'''

    static Map file(path) {
        def own = new File('.venv/bin/python')
        def python = System.getenv('SCMODAL_PYTHON') ?: (own.canExecute() ? own.absolutePath : 'python3')
        def process = [python, '-W', 'ignore', '-c', SCRIPT, "${path}".toString()].execute()
        def out = new StringBuilder()
        def err = new StringBuilder()
        process.waitForProcessOutput(out, err)
        if (process.exitValue() != 0) {
            throw new IllegalStateException("cannot read ${path}: ${err}")
        }
        return new JsonSlurper().parseText(out.toString()) as Map
    }

    // True where a training that asks for a GPU can get one.
    static boolean hasGpu() {
        return new File('/proc/driver/nvidia/gpus').list() as boolean
    }
}
