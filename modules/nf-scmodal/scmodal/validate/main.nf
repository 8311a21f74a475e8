process SCMODAL_VALIDATE {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container 'ghcr.io/scmodal-nf/scmodal:0.1.0'

    input:
    // `rows` are the numbers (1 is the first below the header) of the rows that `files` belong to.
    tuple val(meta), path(sheet), val(rows), path(files, stageAs: 'input?/*')
    path model // folder of a trained model whose new cells the files are, or []
    path genes, stageAs: 'genes/*' // BED or GTF, for peaks and fragments (atac), or []

    output:
    tuple val(meta), path("${prefix}.csv"), emit: csv
    tuple val("${task.process}"), val('scmodal'), eval('scmodal --version | sed "s/.* //"'), emit: versions_scmodal, topic: versions

    script:
    def args = [task.ext.args, task.ext.args2].findAll().join(' ') // args2: a user's, beside what the pipeline sets
    prefix = task.ext.prefix ?: "${meta.id}.validated"
    def staged = [rows, [files].flatten()].transpose().collect { row, staged_file -> "--file ${row}=${staged_file}" }.join(' ')
    def trained = model ? "--model ${model}" : ''
    def annotation = genes ? "--genes ${genes}" : ''
    """
    scmodal validate --input ${sheet} ${staged} ${trained} ${annotation} ${args} --output ${prefix}.csv
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}.validated"
    """
    sed -e '1s/^\\xEF\\xBB\\xBF//' -e 's/["\\r]//g' ${sheet} | awk -F '[,;\\t]' -v OFS=, '
        NR == 1 { for (i = 1; i <= NF; i++) column[tolower(\$i)] = i; print "sample,modality,path,label_key,batch_key,order"; next }
        NF {
            sample = \$column["sample"]; modality = \$column["modality"]
            if (!((sample, modality) in order)) order[sample, modality] = n[sample]++
            print sample, modality, \$column["path"], (column["label_key"] ? \$column["label_key"] : ""), \
                (column["batch_key"] ? \$column["batch_key"] : ""), order[sample, modality]
        }' > ${prefix}.csv
    """
}
