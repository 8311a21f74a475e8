process SCMODAL_IMPUTE {
    tag "${meta.id}${meta.seed != null ? " seed ${meta.seed}" : ''} ${meta.from} to ${meta.to}"
    label 'process_low'

    conda "${moduleDir}/environment.yml"
    container 'ghcr.io/scmodal-nf/scmodal:0.1.0'

    input:
    tuple val(meta), path(h5ad), path(model) // prepared cells of modality meta.from; features of meta.to are imputed

    output:
    tuple val(meta), path("${prefix}.h5ad"), emit: h5ad
    tuple val("${task.process}"), val('scmodal'), eval('scmodal --version | sed "s/.* //"'), emit: versions_scmodal, topic: versions

    script:
    def args = [task.ext.args, task.ext.args2].findAll().join(' ') // args2: a user's, beside what the pipeline sets
    prefix = task.ext.prefix ?: "${meta.id}${meta.seed != null ? ".seed_${meta.seed}" : ''}.${meta.from}_to_${meta.to}"
    """
    export NUMBA_CACHE_DIR=\${NUMBA_CACHE_DIR:-\$PWD/.cache} MPLCONFIGDIR=\${MPLCONFIGDIR:-\$PWD/.cache} OMP_NUM_THREADS=${task.cpus}

    scmodal impute --model ${model} --from ${meta.from} --to ${meta.to} --input ${h5ad} ${args} --output ${prefix}.h5ad
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}${meta.seed != null ? ".seed_${meta.seed}" : ''}.${meta.from}_to_${meta.to}"
    """
    touch ${prefix}.h5ad
    """
}
