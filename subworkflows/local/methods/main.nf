/*
 * A text for the methods section of a paper, with the parameters of this run and citations from CITATIONS.md.
 */

// Writes pipeline_info/methods.md; `samples` are the integrations that were made: maps with modalities and label_keys.
def writeMethods(given, samples) {
    def text = given.model ? newCellsText(given) : integrationText(given, samples)
    def tools = ['scMODAL', 'Nextflow', 'PyTorch', 'scanpy', 'anndata', 'muon / mudata']
    if (!given.model) {
        tools += ['UMAP']
    }
    if (measured(samples, ['rna', 'atac'])) {
        tools += ['Highly variable genes (`seurat_v3`)']
    }
    def cited = citations().findAll { name, _reference -> name in tools }
    def lines = [
        '# Methods',
        '',
        text,
        '',
        "The pipeline ran in Nextflow ${workflow.nextflow.version}${workflow.containerEngine ? " with ${workflow.containerEngine} and the image ${given.container}" : ''}; the version of scMODAL is in `versions.yml`, those of the Python packages are in `model/model.json` of each integration, the parameters that bear on the results in `params.json`.",
        '',
        '## References',
        '',
    ]
    lines += cited.collect { name, reference -> "- ${name}: ${reference}" }
    def published = file("${given.outdir}/pipeline_info/methods.md")
    published.parent.mkdirs()
    published.text = lines.join('\n') + '\n'
}

def integrationText(given, samples) {
    def sentences = [
        "Data sets of different modalities were integrated with scMODAL, in the implementation ${workflow.manifest.name} ${workflow.manifest.version} (${workflow.manifest.homePage}).",
        preparationText(given, samples),
        linksText(given, samples),
        "The model was trained with the preset `${given.preset}`${ownSettings(given)}, topology `${given.topology}`, ${given.seeds > 1 ? "with ${given.seeds} seeds (${given.seed} to ${given.seed + given.seeds - 1})" : "with seed ${given.seed}"}${deviceText(given)}.",
        given.transfer && samples.any { sample -> sample.label_keys.any { _modality, key -> key } } ? "Labels were transferred by a vote of the ${given.neighbours} nearest cells in the latent space." : '',
        given.impute ? imputationText(given) : '',
        peakGeneText(given, samples),
        given.paired ? 'Cells that were measured together were used to measure the match, not in training.' : '',
    ]
    return sentences.findAll().join(' ')
}

// Those of `names` that some sample has, in the order of `names`.
def measured(samples, names) {
    return names.findAll { name -> samples.any { sample -> name in sample.modalities } }
}

def preparationText(given, samples) {
    def atac = measured(samples, ['atac'])
    def genes = measured(samples, ['rna', 'atac']).collect { name -> name == 'rna' ? 'RNA' : 'gene activity' }
    // Without genes of the genome there were no peaks: the matrix was one of gene activity already.
    def peaks = atac && given.genes
    def reach = given.gene_activity == 'weighted' ? 'all peaks within 35 kb, weighted by their distance' : 'the peaks in the gene and 2 kb upstream of it'
    def sentences = [
        peaks ? "Gene activity was the sum of the counts of ${reach} (of tiles of 5 kb where fragments were given); these counts were also reduced by TF-IDF and singular value decomposition." : '',
        atac && !peaks ? 'Chromatin was given as gene activity.' : '',
        measured(samples, ['rna', 'protein', 'atac']) ? "Counts${measured(samples, ['cytometry']) ? ', but those of the cytometer,' : ''} were log-normalised." : '',
        genes ? "Of the ${genes.join(' and of the ')}, the linked genes and up to ${given.n_top_genes} of the most variable ones (seurat_v3) were used." : '',
        measured(samples, ['cytometry']) ? 'Intensities of the cytometer were used on the scale of an inverse hyperbolic sine.' : '',
    ]
    return sentences.findAll().join(' ')
}

// How the features of those modalities were linked that the topology matches.
def linksText(given, samples) {
    if (given.links) {
        return 'Features were linked by a table of our own.'
    }
    def ways = samples
        .collectMany { sample -> matched(sample.modalities, given.topology) }
        .collect { pair ->
            def antibodies = pair.findAll { name -> name in ['protein', 'cytometry'] }.size()
            ['by gene name (RNA and gene activity)', 'by the names of proteins and the genes that encode them', 'by the names of antigens'][antibodies]
        }
    return ways ? "Features were linked ${ways.unique().sort().join(', and ')}." : ''
}

// The pairs of modalities that a topology matches (`pairs_of` in scmodal/presets.py).
def matched(names, topology) {
    def every = (0..<names.size()).collectMany { i -> (i + 1..<names.size()).collect { j -> [i, j] } }
    def chosen = topology == 'chain' ? every.findAll { i, j -> j == i + 1 } : topology == 'star' ? every.findAll { i, _j -> i == 0 } : every
    return chosen.collect { i, j -> [names[i], names[j]] }
}

// Where it is known from the parameters: `auto` is decided where the task runs, whose log tells.
def deviceText(given) {
    if (given.use_gpu || "${given.device}".startsWith('cuda')) {
        return ', on a GPU'
    }
    return [cpu: ', on the CPU', mps: ', on a GPU (MPS)'][given.device] ?: ''
}

def imputationText(given) {
    // As the presets have it (`impute_neighbours` in scmodal/presets.py), or as `--set` does.
    def setting = "${given.set ?: ''}".tokenize(',')*.trim().findAll { text -> text.startsWith('impute_neighbours=') }
    def n = setting ? setting[-1].tokenize('=')[1].trim() as Integer : given.preset == 'paper' ? 0 : 30
    def place = n ? "the mean latent place of the ${n} cells of that modality nearest to a cell" : 'the latent place of a cell'
    return "Features of each modality were imputed in the cells of the others: its generator decoded ${place}."
}

def peakGeneText(given, samples) {
    if (!given.peakgene || !given.genes || !samples.any { sample -> sample.modalities.containsAll(['rna', 'atac']) }) {
        return ''
    }
    return "Peaks up to ${given.window} bp from the start of a gene were linked to it by the correlation of their accessibility with its imputed expression over groups of cells alike, against peaks of other chromosomes of the same accessibility${given.fasta ? ' and GC content' : ''}."
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
