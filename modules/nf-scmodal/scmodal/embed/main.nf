process SCMODAL_EMBED {
    tag "${meta.id} ${meta.modality}"
    label 'process_low'

    conda "${moduleDir}/environment.yml"
    container 'ghcr.io/scmodal-nf/scmodal:0.1.0'

    input:
    tuple val(meta), path(cells, stageAs: 'input/*'), path(model), path(reference) // raw or prepared cells of meta.modality; integrated.h5mu with labels, or []
    path genes, stageAs: 'genes/*' // BED or GTF, for peaks and fragments (atac), or []

    output:
    tuple val(meta), path("${prefix}.h5ad")             , emit: h5ad
    tuple val(meta), path("${prefix}.embedding.parquet"), emit: embedding
    tuple val(meta), path("${prefix}.labels.tsv")       , emit: labels, optional: true
    tuple val("${task.process}"), val('scmodal'), eval('scmodal --version | sed "s/.* //"'), emit: versions_scmodal, topic: versions

    script:
    def args = [task.ext.args, task.ext.args2].findAll().join(' ') // args2: a user's, beside what the pipeline sets
    prefix = task.ext.prefix ?: "${meta.id}.${meta.modality}"
    def label_key = meta.label_key ? "--label-key '${meta.label_key.replace("'", "'\\''")}'" : ''
    def annotation = genes && meta.modality == 'atac' ? "--genes ${genes}" : ''
    def labels = reference ? "--reference ${reference} ${label_key} --labels ${prefix}.labels.tsv" : ''
    """
    export NUMBA_CACHE_DIR=\${NUMBA_CACHE_DIR:-\$PWD/.cache} MPLCONFIGDIR=\${MPLCONFIGDIR:-\$PWD/.cache} OMP_NUM_THREADS=${task.cpus}

    scmodal embed --model ${model} --input ${cells} --modality ${meta.modality} ${labels} ${annotation} ${args} --output ${prefix}.h5ad --table ${prefix}.embedding.parquet
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}.${meta.modality}"
    def labels = reference ? "printf 'cell\\tlabel\\tconfidence\\tsecond_label\\tentropy\\n' > ${prefix}.labels.tsv" : ''
    """
    touch ${prefix}.h5ad ${prefix}.embedding.parquet
    ${labels}
    """
}
