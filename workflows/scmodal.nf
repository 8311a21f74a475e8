/*
 * From a samplesheet to one latent space, labels, imputed features and a report for each sample.
 *
 *   samplesheet ─ PREPROCESS ─┬─ LINK ─ INTEGRATE ─┬─ IMPUTE ───┐
 *                             └────────────┘       ├─ TRANSFER ─┼─ REPORT
 *                                                  ├─ PEAKGENE ─┤
 *                                                  ├─ EVALUATE ─┤
 *                                                  └─ SELECT ───┘
 *
 * A `sample` is one integration. Everything after INTEGRATE is done once for each seed, but SELECT, which compares them.
 *
 * With a trained model (NEW_CELLS) nothing is trained, and each row of the samplesheet goes its way alone:
 *
 *   samplesheet ─ EMBED ─ IMPUTE
 */

include { SAMPLESHEET                  } from '../subworkflows/local/samplesheet'
include { VERSIONS                     } from '../subworkflows/local/versions'
include { SCMODAL_INTEGRATE            } from '../subworkflows/nf-scmodal/scmodal_integrate'
include { SCMODAL_EMBED as EMBED       } from '../modules/nf-scmodal/scmodal/embed'
include { SCMODAL_IMPUTE as IMPUTE     } from '../modules/nf-scmodal/scmodal/impute'
include { SCMODAL_TRANSFER as TRANSFER } from '../modules/nf-scmodal/scmodal/transfer'
include { SCMODAL_PEAKGENE as PEAKGENE } from '../modules/nf-scmodal/scmodal/peakgene'
include { SCMODAL_EVALUATE as EVALUATE } from '../modules/nf-scmodal/scmodal/evaluate'
include { SCMODAL_SELECT as SELECT     } from '../modules/nf-scmodal/scmodal/select'
include { SCMODAL_REPORT as REPORT     } from '../modules/nf-scmodal/scmodal/report'

workflow SCMODAL {
    take:
    sheet      // path: sample, modality, path, label_key, batch_key
    table      // path: the user's own links, or []
    genes      // path: BED or GTF, for chromatin, or []
    fasta      // path: genome, for the background of peak-gene links, or []
    seeds      // list of integers
    parameters // path: JSON of the parameters, for the report
    options    // map: fail_on, impute, transfer, peakgene, genes, fasta, label_key, batch_key, validate_files, outdir

    main:
    // One item for each modality of each sample: [[id, modality, order, label_key, batch_key], [files]].
    SAMPLESHEET(sheet, [], genes, options)

    // PREPROCESS, LINK and INTEGRATE: [[id, modalities: [rna, protein], label_keys: [rna: 'celltype'], seed], result].
    SCMODAL_INTEGRATE(SAMPLESHEET.out.modalities, table, genes, seeds)

    // One item for each sample, seed and directed pair of modalities: [[…, from, to], h5ad of `from`, model].
    directed = SCMODAL_INTEGRATE.out.model
        .map { meta, model -> [meta - [seed: meta.seed], meta, model] }
        .combine(SCMODAL_INTEGRATE.out.prepared, by: 0)
        .flatMap { _sample, meta, model, h5ads ->
            directions(meta).collect { from, to -> [meta + [from: from, to: to], h5ads[meta.modalities.indexOf(from)], model] }
        }
    IMPUTE(directed.filter { options.impute })

    // Labels go from a modality that has them to every other one: [[…, from, to, label_key], integrated.h5mu].
    labelled = SCMODAL_INTEGRATE.out.integrated.flatMap { meta, h5mu ->
        labelDirections(meta).collect { from, to -> [meta + [from: from, to: to, label_key: meta.label_keys[from]], h5mu] }
    }
    TRANSFER(labelled.filter { options.transfer })
    EVALUATE(SCMODAL_INTEGRATE.out.run)

    // One item for each sample: [[id, modalities, label_keys], [folders], [h5ads], links].
    SELECT(
        SCMODAL_INTEGRATE.out.run
            .map { meta, run -> [groupKey(meta - [seed: meta.seed], seeds.size()), [order: resultOrder(meta), run: run]] }
            .groupTuple()
            .map { key, items -> [key.target, items.sort { item -> item.order }.collect { item -> item.run }] }
            .join(SCMODAL_INTEGRATE.out.prepared)
            .join(SCMODAL_INTEGRATE.out.links)
    )

    // One item for each seed of a sample with RNA and ATAC: [[…, group_key], rna.h5ad, atac.h5ad, integrated.h5mu, model].
    regulated = SCMODAL_INTEGRATE.out.integrated
        .join(SCMODAL_INTEGRATE.out.model)
        .map { meta, h5mu, model -> [meta - [seed: meta.seed], meta, h5mu, model] }
        .combine(SCMODAL_INTEGRATE.out.prepared, by: 0)
        .filter { _sample, meta, _h5mu, _model, _h5ads -> isRegulated(meta, options) }
        .map { _sample, meta, h5mu, model, h5ads ->
            def (rna, atac) = ['rna', 'atac'].collect { name -> h5ads[meta.modalities.indexOf(name)] }
            [meta + [group_key: meta.label_keys.atac ?: meta.label_keys.rna], rna, atac, h5mu, model]
        }
    PEAKGENE(regulated, genes, fasta)

    // All that belongs to one sample, each file with its kind and seed; the size is known, so no sample waits for another.
    results = channel.empty()
        .mix(
            SCMODAL_INTEGRATE.out.coverage.map { meta, tsv -> [meta, 'coverage', tsv] },
            SCMODAL_INTEGRATE.out.run.map { meta, run -> [meta, 'runs', run] },
            EVALUATE.out.json.map { meta, json -> [meta, 'metrics', json] },
            IMPUTE.out.h5ad.map { meta, h5ad -> [meta, 'imputed', h5ad] },
            TRANSFER.out.labels.map { meta, tsv -> [meta, 'labels', tsv] },
            PEAKGENE.out.folder.map { meta, folder -> [meta, 'peakgene', folder] },
            SELECT.out.json.map { meta, json -> [meta, 'selection', json] },
        )
        .map { meta, kind, result -> [groupKey(meta.id, nResults(meta, seeds.size(), options)), [kind: kind, order: resultOrder(meta), result: result]] }
        .groupTuple()
        .map { id, items -> [[id: "${id}"]] + ['runs', 'coverage', 'metrics', 'labels', 'imputed', 'peakgene', 'selection'].collect { kind -> ofKind(items, kind) } }
    REPORT(results, parameters)

    // When all reports are there: integrations that are not good enough end the run, if asked for.
    REPORT.out.html
        .map { meta, html -> [meta.id, html] }
        .join(SELECT.out.json.map { meta, json -> [meta.id, json] })
        .toList()
        .map { rows -> checkVerdicts(rows, options.fail_on) }

    VERSIONS(options.outdir)

    // Plain names: `name = value` under `emit:` is lost by the strict parser of 25.04.0.
    integrated = SCMODAL_INTEGRATE.out.integrated
    metrics = EVALUATE.out.json
    report = REPORT.out.html

    emit:
    integrated // [[id, modalities, label_keys, seed], integrated.h5mu]
    metrics    // [[id, modalities, label_keys, seed], metrics.json]
    report     // [[id], html]
}

workflow NEW_CELLS {
    take:
    sheet   // path: sample, modality, path
    model   // path: model/ folder of an integration
    genes   // path: BED or GTF, for chromatin, or []
    options // map: impute, validate_files, outdir

    main:
    // One item for each row: [[id, modality], [file]]. A label_key is of no use here: nothing is labelled.
    SAMPLESHEET(sheet, model, genes, options)
    EMBED(SAMPLESHEET.out.modalities.map { meta, files -> [meta.subMap('id', 'modality'), files, model, []] }, genes)

    // One item for each row and other modality of the model: [[id, modality, from, to], h5ad, model].
    modalities = modalitiesOf(model)
    directed = EMBED.out.h5ad.flatMap { meta, h5ad ->
        modalities.findAll { to -> to != meta.modality }.collect { to -> [meta + [from: meta.modality, to: to], h5ad, model] }
    }
    IMPUTE(directed.filter { options.impute })
    VERSIONS(options.outdir)

    embedded = EMBED.out.h5ad
    imputed = IMPUTE.out.h5ad

    emit:
    embedded // [[id, modality], h5ad]
    imputed  // [[id, modality, from, to], h5ad]
}

// Every [from, to] of a sample's modalities.
def directions(meta) {
    return [meta.modalities, meta.modalities].combinations().findAll { from, to -> from != to }
}

// Those whose source has labels.
def labelDirections(meta) {
    return directions(meta).findAll { from, _to -> meta.label_keys[from] }
}

// Whether peaks are linked to genes: where both were measured and it is known where the genes are.
def isRegulated(meta, options) {
    return options.peakgene && options.genes && meta.modalities.containsAll(['rna', 'atac'])
}

// How many files make a sample's report: its coverage and selection and, for each seed, run, metrics, imputed features, labels and links.
def nResults(meta, n_seeds, options) {
    def imputed = options.impute ? directions(meta).size() : 0
    def labels = options.transfer ? labelDirections(meta).size() : 0
    def links = isRegulated(meta, options) ? 1 : 0
    return 2 + n_seeds * (2 + imputed + labels + links)
}

// Ends the run where samples' verdicts are `limit` or worse; rows are [id, html, selection.json].
def checkVerdicts(rows, limit) {
    def order = ['trusted', 'doubtful', 'failed']
    def found = rows.collect { id, html, json -> [id, html, new groovy.json.JsonSlurper().parseText(json.text)] }
    def bad = found.findAll { _id, _html, selection -> limit && order.indexOf(selection.verdict) >= order.indexOf(limit) }
    if (bad) {
        def lines = bad.collect { id, html, selection -> "sample ${id} is ${selection.verdict} (${selection.reasons ? selection.reasons[0] : 'no reason given'}), see ${html.name}" }
        error("Error: --fail_on ${limit}: ${lines.join('; ')}. All results are kept.")
    }
    return bad
}

// Sorts a sample's files the same way in every run: by seed, then by direction.
def resultOrder(meta) {
    return String.format('%06d %s %s', meta.seed ?: 0, meta.from ?: '', meta.to ?: '')
}

def ofKind(items, kind) {
    return items.findAll { item -> item.kind == kind }.sort { item -> item.order }.collect { item -> item.result }
}

// Names of the modalities that a model has.
def modalitiesOf(model) {
    def description = model.resolve('model.json')
    if (!description.exists()) {
        error("--model ${model}: no model.json in it; give the model/ folder of an integration result")
    }
    return new groovy.json.JsonSlurper().parseText(description.text).modalities
}
