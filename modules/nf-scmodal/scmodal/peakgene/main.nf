process SCMODAL_PEAKGENE {
    tag "${meta.id}${meta.seed != null ? " seed ${meta.seed}" : ''}"
    label 'process_low'

    conda "${moduleDir}/environment.yml"
    container 'ghcr.io/scmodal-nf/scmodal:0.1.0'

    input:
    tuple val(meta), path(rna, stageAs: 'rna/*'), path(atac, stageAs: 'atac/*'), path(integrated), path(model) // prepared data, and what integrate made of them; meta.group_key
    path genes // BED or GTF
    path fasta // genome, or []

    output:
    tuple val(meta), path("${prefix}")                  , emit: folder
    tuple val(meta), path("${prefix}/peak_gene.tsv.gz") , emit: table
    tuple val(meta), path("${prefix}/peak_gene.bedpe")  , emit: bedpe
    tuple val(meta), path("${prefix}/peak_gene.interact"), emit: interact
    tuple val("${task.process}"), val('scmodal'), eval('scmodal --version | sed "s/.* //"'), emit: versions_scmodal, topic: versions

    script:
    def args = [task.ext.args, task.ext.args2].findAll().join(' ') // args2: a user's, beside what the pipeline sets
    prefix = task.ext.prefix ?: "${meta.id}${meta.seed != null ? ".seed_${meta.seed}" : ''}.peakgene"
    def group_key = meta.group_key ? "--group-key '${meta.group_key.replace("'", "'\\''")}'" : ''
    def genome = fasta ? "--fasta ${fasta}" : ''
    """
    export NUMBA_CACHE_DIR=\${NUMBA_CACHE_DIR:-\$PWD/.cache} MPLCONFIGDIR=\${MPLCONFIGDIR:-\$PWD/.cache} OMP_NUM_THREADS=${task.cpus}

    scmodal peakgene --rna ${rna} --atac ${atac} --integrated ${integrated} --model ${model} --genes ${genes} ${genome} ${group_key} \\
        --device cpu ${args} --output ${prefix}
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}${meta.seed != null ? ".seed_${meta.seed}" : ''}.peakgene"
    """
    mkdir ${prefix}
    touch ${prefix}/peak_gene.bedpe ${prefix}/peak_gene.interact
    echo '{}' > ${prefix}/peak_gene.json
    printf 'chrom\\tstart\\tend\\tpeak\\tgene_id\\tgene\\ttss\\tstrand\\tdistance\\tr\\tz\\tp\\tfdr\\tn_units\\tgroup\\tspearman\\n' | gzip > ${prefix}/peak_gene.tsv.gz
    """
}
