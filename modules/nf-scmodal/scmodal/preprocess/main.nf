process SCMODAL_PREPROCESS {
    tag "${meta.id} ${meta.modality}"
    label 'process_low'

    conda "${moduleDir}/environment.yml"
    container 'ghcr.io/scmodal-nf/scmodal:0.1.0'

    input:
    tuple val(meta), path(files, stageAs: 'input?/*') // several files of one modality are joined; meta.modality, label_key, batch_key
    path table                                        // the user's own links, or []
    path genes, stageAs: 'genes/*'                    // BED or GTF, for peaks and fragments (atac), or []

    output:
    tuple val(meta), path("${prefix}.h5ad"), emit: h5ad
    tuple val("${task.process}"), val('scmodal'), eval('scmodal --version | sed "s/.* //"'), emit: versions_scmodal, topic: versions

    script:
    def args = [task.ext.args, task.ext.args2].findAll().join(' ') // args2: a user's, beside what the pipeline sets
    prefix = task.ext.prefix ?: "${meta.id}.${meta.modality}"
    def inputs = [files].flatten().collect { input -> "--input ${input}" }.join(' ')
    def keys = [label: meta.label_key, batch: meta.batch_key].findAll { _name, key -> key }.collect { name, key -> "--${name}-key '${key.replace("'", "'\\''")}'" }.join(' ')
    def links = table ? "--links ${table}" : ''
    def annotation = genes && meta.modality == 'atac' ? "--genes ${genes}" : ''
    """
    export NUMBA_CACHE_DIR=\${NUMBA_CACHE_DIR:-\$PWD/.cache} MPLCONFIGDIR=\${MPLCONFIGDIR:-\$PWD/.cache} OMP_NUM_THREADS=${task.cpus}

    scmodal preprocess ${inputs} --modality ${meta.modality} ${keys} ${links} ${annotation} ${args} --output ${prefix}.h5ad
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}.${meta.modality}"
    """
    touch ${prefix}.h5ad
    """
}
