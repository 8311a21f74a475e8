process SCMODAL_INTEGRATE {
    tag "${meta.id} seed ${meta.seed ?: 0}"
    label 'process_gpu'

    // A stop (time limit, preemption, Ctrl-C) ends the task's wrapper at once; here it waits until training has written
    // its checkpoint, for else the scheduler would end that too.
    afterScript 'n=0; while [ -e .training ] && [ $n -lt 100 ]; do sleep 0.25; n=$((n+1)); done'

    conda "${moduleDir}/environment.yml"
    container 'ghcr.io/scmodal-nf/scmodal:0.1.0'

    input:
    tuple val(meta), path(h5ads, stageAs: 'input?/*'), path(links) // prepared modalities in the order of the chain; meta.seed; links or []

    output:
    tuple val(meta), path("${prefix}")                  , emit: run
    tuple val(meta), path("${prefix}/integrated.h5mu")  , emit: integrated
    tuple val(meta), path("${prefix}/embedding.parquet"), emit: embedding
    tuple val(meta), path("${prefix}/model")            , emit: model
    tuple val(meta), path("${prefix}/history.parquet")  , emit: history
    tuple val(meta), path("${prefix}/metrics.json")     , emit: metrics
    tuple val(meta), path("${prefix}/latent.h5ad")      , emit: h5ad, optional: true // with ext.args '--anndata', as is the next
    tuple val(meta), path("${prefix}/X_scmodal.parquet"), emit: obsm, optional: true
    tuple val("${task.process}"), val('scmodal'), eval('scmodal --version | sed "s/.* //"'), emit: versions_scmodal, topic: versions

    script:
    def args = [task.ext.args, task.ext.args2].findAll().join(' ') // args2: a user's, beside what the pipeline sets
    prefix = task.ext.prefix ?: "${meta.id}.seed_${meta.seed ?: 0}"
    def inputs = [h5ads].flatten().collect { h5ad -> "--input ${h5ad}" }.join(' ')
    def table = links ? "--links ${links}" : ''
    def device = task.accelerator ? 'cuda' : (task.ext.device ?: 'auto')
    // A folder that outlives the task lets the next attempt go on where this one was stopped.
    def checkpoint = (task.ext.checkpoint_dir ? "${task.ext.checkpoint_dir}/" : '') + "${prefix}.checkpoint.safetensors"
    """
    export NUMBA_CACHE_DIR=\${NUMBA_CACHE_DIR:-\$PWD/.cache} MPLCONFIGDIR=\${MPLCONFIGDIR:-\$PWD/.cache} OMP_NUM_THREADS=${task.cpus}

    touch .training
    trap 'rm -f .training' EXIT

    scmodal integrate ${inputs} ${table} --output ${prefix} --seed ${meta.seed ?: 0} --device ${device} --threads ${task.cpus} \\
        --checkpoint '${checkpoint}' --resume-or-restart ${args} &

    # The shell hands a stop on (a container's reaches nothing but the shell) and waits until the checkpoint is written.
    trap 'kill -TERM \$! 2> /dev/null || true' TERM
    while wait \$! && status=0 || status=\$?; kill -0 \$! 2> /dev/null; do :; done
    [ \$status -eq 0 ] || exit \$status
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}.seed_${meta.seed ?: 0}"
    def anndata = '--anndata' in [task.ext.args, task.ext.args2].findAll().join(' ').tokenize() ? "touch ${prefix}/latent.h5ad ${prefix}/X_scmodal.parquet" : ''
    """
    mkdir -p ${prefix}/model
    touch ${prefix}/integrated.h5mu ${prefix}/embedding.parquet ${prefix}/history.parquet ${prefix}/model/weights.safetensors
    echo '{"seed": ${meta.seed ?: 0}}' | tee ${prefix}/model/model.json > ${prefix}/metrics.json
    ${anndata}
    """
}
