// Simulated RNA and chromatin, integrated in a few steps: what PEAKGENE starts from.
process EXAMPLE {
    input:
    val meta

    output:
    tuple val(meta), path('rna.h5ad'), path('atac.h5ad'), path('run/integrated.h5mu'), path('run/model'), emit: run
    path 'raw/genes.bed', emit: genes

    script:
    """
    scmodal simulate --output raw --peak-gene --cells 300 --genes 60 --cell-types 2
    scmodal preprocess --input raw/rna.h5ad --modality rna --label-key cell_type --output rna.h5ad
    scmodal preprocess --input raw/atac.h5ad --modality atac --genes raw/genes.bed --label-key cell_type --output atac.h5ad
    scmodal integrate --input rna.h5ad --input atac.h5ad --output run --steps 20 --batch-size 80 --device cpu
    """

    stub:
    """
    mkdir -p raw run/model
    touch rna.h5ad atac.h5ad run/integrated.h5mu raw/genes.bed
    """
}
