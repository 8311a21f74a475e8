process SCMODAL_REPORT {
    tag "${meta.id}"
    label 'process_low'

    conda "${moduleDir}/environment.yml"
    container 'ghcr.io/scmodal-nf/scmodal:0.1.0'

    input:
    // All of one sample; lists have one file for each seed, labels and imputed features one for each seed and direction, or none; peak-gene links a folder for each seed; selection one file or none.
    tuple val(meta), path(runs, stageAs: 'run?/*'), path(coverage), path(metrics, stageAs: 'metrics?/*'), path(labels, stageAs: 'labels?/*'), path(imputed, stageAs: 'imputed?/*'), path(peakgene, stageAs: 'peakgene?/*'), path(selection)
    path parameters // JSON of the parameters, or []

    output:
    tuple val(meta), path("${prefix}.html"), emit: html
    tuple val(meta), path("multiqc/*")     , emit: multiqc
    tuple val("${task.process}"), val('scmodal'), eval('scmodal --version | sed "s/.* //"'), emit: versions_scmodal, topic: versions

    script:
    def args = [task.ext.args, task.ext.args2].findAll().join(' ') // args2: a user's, beside what the pipeline sets
    prefix = task.ext.prefix ?: "${meta.id}"
    def inputs = [run: runs, coverage: coverage, evaluate: metrics, transfer: labels, imputed: imputed, peakgene: peakgene, selection: selection, params: parameters]
        .collectMany { option, given -> [given].flatten().collect { input -> "--${option} ${input}" } }
        .join(' ')
    """
    export NUMBA_CACHE_DIR=\${NUMBA_CACHE_DIR:-\$PWD/.cache} MPLCONFIGDIR=\${MPLCONFIGDIR:-\$PWD/.cache} OMP_NUM_THREADS=${task.cpus}

    scmodal report --sample '${meta.id}' ${inputs} ${args} --output ${prefix}.html --multiqc-dir multiqc
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir multiqc
    echo '<!doctype html><title>${meta.id}</title>' > ${prefix}.html
    echo '{}' > multiqc/${prefix}_mqc.json
    """
}
