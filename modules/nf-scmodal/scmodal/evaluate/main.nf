process SCMODAL_EVALUATE {
    tag "${meta.id}${meta.seed != null ? " seed ${meta.seed}" : ''}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container 'ghcr.io/scmodal-nf/scmodal:0.1.0'

    input:
    tuple val(meta), path(run) // the folder made by INTEGRATE

    output:
    tuple val(meta), path("${prefix}.json"), emit: json
    tuple val("${task.process}"), val('scmodal'), eval('scmodal --version | sed "s/.* //"'), emit: versions_scmodal, topic: versions

    script:
    def args = [task.ext.args, task.ext.args2].findAll().join(' ') // args2: a user's, beside what the pipeline sets
    prefix = task.ext.prefix ?: "${meta.id}${meta.seed != null ? ".seed_${meta.seed}" : ''}.metrics"
    """
    export NUMBA_CACHE_DIR=\${NUMBA_CACHE_DIR:-\$PWD/.cache} MPLCONFIGDIR=\${MPLCONFIGDIR:-\$PWD/.cache} OMP_NUM_THREADS=${task.cpus}

    scmodal evaluate --integrated ${run}/integrated.h5mu --model ${run}/model ${args} --output ${prefix}.json
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}${meta.seed != null ? ".seed_${meta.seed}" : ''}.metrics"
    """
    echo '{"seed": ${meta.seed ?: 0}}' > ${prefix}.json
    """
}
