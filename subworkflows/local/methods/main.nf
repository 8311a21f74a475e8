/*
 * A text for the methods section of a paper, with the parameters of this run and citations from CITATIONS.md.
 */

// Writes pipeline_info/methods.md; `modalities` are those of the data.
def writeMethods(given, modalities) {
    def text = given.model ? newCellsText(given) : integrationText(given, modalities)
    def tools = ['scMODAL', 'Nextflow', 'PyTorch', 'scanpy', 'anndata', 'muon / mudata', 'UMAP', 'Highly variable genes (`seurat_v3`)']
    def cited = citations().findAll { name, _reference -> name in tools }
    def lines = [
        '# Methods',
        '',
        text,
        '',
        "The pipeline ran in Nextflow ${workflow.nextflow.version}${workflow.containerEngine ? " with ${workflow.containerEngine} and the image ${given.container}" : ''}; versions of the tools are in `versions.yml`, the parameters in `params.json`.",
        '',
        '## References',
        '',
    ]
    lines += cited.collect { name, reference -> "- ${name}: ${reference}" }
    def published = file("${given.outdir}/pipeline_info/methods.md")
    published.parent.mkdirs()
    published.text = lines.join('\n') + '\n'
}

def integrationText(given, modalities) {
    def sentences = [
        "Data sets of different modalities were integrated with scMODAL, in the implementation ${workflow.manifest.name} ${workflow.manifest.version} (${workflow.manifest.homePage}).",
        preparationText(given, modalities),
        linksText(given, modalities),
        "The model was trained with the preset `${given.preset}`${ownSettings(given)}, topology `${given.topology}`, ${given.seeds > 1 ? "with ${given.seeds} seeds (${given.seed} to ${given.seed + given.seeds - 1})" : "with seed ${given.seed}"}${given.use_gpu ? ', on a GPU' : ''}.",
        given.transfer ? "Labels were transferred by a vote of the ${given.neighbours} nearest cells in the latent space." : '',
        given.impute ? imputationText(given) : '',
        given.peakgene && given.genes && modalities.containsAll(['rna', 'atac']) ? "Peaks up to ${given.window} bp from the start of a gene were linked to it by the correlation of their accessibility with its imputed expression over groups of cells alike, against peaks of other chromosomes as accessible." : '',
        given.paired ? 'Cells that were measured together were used to measure the match, not in training.' : '',
    ]
    return sentences.findAll().join(' ')
}

def preparationText(given, modalities) {
    def counted = ['rna', 'protein', 'atac'].intersect(modalities)
    def genes = ['rna', 'atac'].intersect(modalities).collect { name -> name == 'rna' ? 'RNA' : 'gene activity' }
    def sentences = [
        'atac' in modalities ? 'Counts of peaks were summed to gene activity, and reduced by TF-IDF and singular value decomposition.' : '',
        counted ? 'Counts were log-normalised.' : '',
        genes ? "Of ${genes.join(' and ')}, the linked genes and the ${given.n_top_genes} most variable ones (seurat_v3) were used." : '',
        'cytometry' in modalities ? 'Intensities of the cytometer were used on the scale of an inverse hyperbolic sine.' : '',
    ]
    return sentences.findAll().join(' ')
}

def linksText(given, modalities) {
    if (given.links) {
        return 'Features were linked by a table of our own.'
    }
    def antibodies = ['protein', 'cytometry'].intersect(modalities)
    def ways = [
        antibodies && modalities.intersect(['rna', 'atac']) ? 'by the names of proteins and the genes that encode them' : '',
        antibodies.size() > 1 ? 'by the names of antigens' : '',
        modalities.containsAll(['rna', 'atac']) ? 'by the names of genes' : '',
    ].findAll()
    return ways ? "Features were linked ${ways.join(', and ')}." : ''
}

def imputationText(given) {
    return given.preset == 'paper'
        ? 'Features of each modality were imputed in the cells of the others by the generators of the model.'
        : 'Features of each modality were imputed in the cells of the others: the generator of the modality decoded the mean latent place of its nearest cells.'
}

def newCellsText(given) {
    return "New cells were put into the latent space of a trained scMODAL model with ${workflow.manifest.name} ${workflow.manifest.version} (${workflow.manifest.homePage})." + (given.impute ? ' Features of its other modalities were imputed in them.' : '')
}

// Settings that differ from the preset's, as words.
def ownSettings(given) {
    def own = [given.steps ? "${given.steps} steps" : '', given.batch_size ? "batches of ${given.batch_size} cells" : '', given.set ?: ''].findAll()
    return own ? " (${own.join(', ')})" : ''
}

// Name -> reference, from the list in CITATIONS.md.
def citations() {
    def items = file("${projectDir}/CITATIONS.md").text.split(/\n(?=- \*\*)/).drop(1)
    return items.collectEntries { item ->
        def entry = item.split(/\n\s*\n/)[0].readLines()*.trim().join(' ')
        def parts = (entry =~ /^- \*\*(.+?)\*\* — (.+)$/)[0]
        [parts[1], parts[2]]
    }
}
