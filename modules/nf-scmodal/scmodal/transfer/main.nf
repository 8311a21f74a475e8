process SCMODAL_TRANSFER {
    tag "${meta.id}${meta.seed != null ? " seed ${meta.seed}" : ''} ${meta.from} to ${meta.to}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container 'ghcr.io/scmodal-nf/scmodal:0.1.0'

    input:
    tuple val(meta), path(integrated) // integrated.h5mu; meta.from has the labels, meta.to gets them; meta.label_key

    output:
    tuple val(meta), path("${prefix}.labels.tsv"), emit: labels
    tuple val("${task.process}"), val('scmodal'), eval('scmodal --version | sed "s/.* //"'), emit: versions_scmodal, topic: versions

    script:
    def args = [task.ext.args, task.ext.args2].findAll().join(' ') // args2: a user's, beside what the pipeline sets
    prefix = task.ext.prefix ?: "${meta.id}${meta.seed != null ? ".seed_${meta.seed}" : ''}.${meta.from}_to_${meta.to}"
    def label_key = meta.label_key ? "--label-key '${meta.label_key.replace("'", "'\\''")}'" : ''
    """
    export NUMBA_CACHE_DIR=\${NUMBA_CACHE_DIR:-\$PWD/.cache} MPLCONFIGDIR=\${MPLCONFIGDIR:-\$PWD/.cache} OMP_NUM_THREADS=${task.cpus}

    scmodal transfer --integrated ${integrated} --from ${meta.from} --to ${meta.to} ${label_key} ${args} --output ${prefix}.labels.tsv
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}${meta.seed != null ? ".seed_${meta.seed}" : ''}.${meta.from}_to_${meta.to}"
    """
    printf 'cell\\tlabel\\tconfidence\\tsecond_label\\tentropy\\n' > ${prefix}.labels.tsv
    """
}
