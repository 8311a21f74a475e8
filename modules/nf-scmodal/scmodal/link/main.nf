process SCMODAL_LINK {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container 'ghcr.io/scmodal-nf/scmodal:0.1.0'

    input:
    tuple val(meta), path(h5ads, stageAs: 'input?/*') // prepared modalities, in the order of the chain
    path table                                        // the user's own links, or []

    output:
    tuple val(meta), path("${prefix}.links.tsv")    , emit: links
    tuple val(meta), path("${prefix}.coverage.tsv") , emit: coverage
    tuple val(meta), path("${prefix}.coverage.json"), emit: summary
    tuple val("${task.process}"), val('scmodal'), eval('scmodal --version | sed "s/.* //"'), emit: versions_scmodal, topic: versions

    script:
    def args = [task.ext.args, task.ext.args2].findAll().join(' ') // args2: a user's, beside what the pipeline sets
    prefix = task.ext.prefix ?: "${meta.id}"
    def inputs = [h5ads].flatten().collect { h5ad -> "--input ${h5ad}" }.join(' ')
    def user_table = table ? "--table ${table}" : ''
    """
    scmodal link ${inputs} ${user_table} ${args} --output ${prefix}.links.tsv --coverage ${prefix}.coverage.tsv --summary ${prefix}.coverage.json
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    printf 'feature_a\\tfeature_b\\tmodality_a\\tmodality_b\\tweight\\n' > ${prefix}.links.tsv
    printf 'modality\\tfeature\\tmatched\\tpartner\\tnearest\\tnote\\n' > ${prefix}.coverage.tsv
    echo '{}' > ${prefix}.coverage.json
    """
}
