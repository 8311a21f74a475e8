process SCMODAL_SELECT {
    tag "${meta.id}"
    label 'process_low'

    conda "${moduleDir}/environment.yml"
    container 'ghcr.io/scmodal-nf/scmodal:0.1.0'

    input:
    tuple val(meta), path(runs, stageAs: 'run?/*'), path(h5ads, stageAs: 'input?/*'), path(links) // folders made by INTEGRATE; prepared modalities in the order of the chain; links or []

    output:
    tuple val(meta), path("${prefix}.json"), emit: json
    tuple val(meta), path("${prefix}.tsv") , emit: table
    tuple val("${task.process}"), val('scmodal'), eval('scmodal --version | sed "s/.* //"'), emit: versions_scmodal, topic: versions

    script:
    def args = [task.ext.args, task.ext.args2].findAll().join(' ') // args2: a user's, beside what the pipeline sets
    prefix = task.ext.prefix ?: "${meta.id}.selection"
    def inputs = [run: runs, input: h5ads, links: links]
        .collectMany { option, given -> [given].flatten().collect { input -> "--${option} ${input}" } }
        .join(' ')
    """
    export NUMBA_CACHE_DIR=\${NUMBA_CACHE_DIR:-\$PWD/.cache} MPLCONFIGDIR=\${MPLCONFIGDIR:-\$PWD/.cache} OMP_NUM_THREADS=${task.cpus}

    scmodal select ${inputs} ${args} --output ${prefix}.json --table ${prefix}.tsv
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}.selection"
    """
    echo '{"verdict": "trusted", "reasons": []}' > ${prefix}.json
    echo 'seed' > ${prefix}.tsv
    """
}
