/*
 * A text for the methods section of a paper, with the parameters of this run and citations from CITATIONS.md.
 */

// Writes pipeline_info/methods.md.
def writeMethods(given) {
    def text = given.model ? newCellsText(given) : integrationText(given)
    def tools = ['scMODAL', 'Nextflow', 'PyTorch', 'scanpy', 'anndata', 'muon / mudata', 'UMAP', 'Highly variable genes (`seurat_v3`)']
    def cited = citations().findAll { name, _reference -> name in tools }
    def lines = [
        '# Methods',
        '',
        text,
        '',
        "The pipeline ran in Nextflow ${workflow.nextflow.version}${workflow.containerEngine ? " with ${workflow.containerEngine} and the image ${given.container}" : ''}; versions of the tools are in `versions.yml`, all parameters in `params.json`.",
        '',
        '## References',
        '',
    ]
    lines += cited.collect { name, reference -> "- ${name}: ${reference}" }
    def published = file("${given.outdir}/pipeline_info/methods.md")
    published.parent.mkdirs()
    published.text = lines.join('\n') + '\n'
}

def integrationText(given) {
    def sentences = [
        "Data sets of different modalities were integrated with scMODAL, in the implementation ${workflow.manifest.name} ${workflow.manifest.version} (${workflow.manifest.homePage}).",
        "Counts were log-normalised; of the RNA, the linked genes and the ${given.n_top_genes} most variable ones (seurat_v3) were used.",
        given.links ? 'Features were linked by a table of our own.' : 'Features were linked by the names of proteins and the genes that encode them.',
        "The model was trained with the preset `${given.preset}`${ownSettings(given)}, topology `${given.topology}`, ${given.seeds > 1 ? "with ${given.seeds} seeds (${given.seed} to ${given.seed + given.seeds - 1})" : "with seed ${given.seed}"}, on ${given.use_gpu ? 'a GPU' : 'the device that was found'}.",
        given.transfer ? "Labels were transferred by a vote of the ${given.neighbours} nearest cells in the latent space." : '',
        given.impute ? 'Features of each modality were imputed in the cells of the others by the generators of the model.' : '',
        given.paired ? 'Cells that were measured together were used to measure the match, not in training.' : '',
    ]
    return sentences.findAll().join(' ')
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
