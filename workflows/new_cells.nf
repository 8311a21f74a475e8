/*
 * New cells on a trained model: nothing is trained.
 *
 *   samplesheet ─ EMBED ─ IMPUTE
 */

include { SAMPLESHEET } from '../subworkflows/local/samplesheet'
include { VERSIONS    } from '../subworkflows/local/versions'
include { EMBED       } from '../modules/nf-scmodal/scmodal/embed'
include { IMPUTE      } from '../modules/nf-scmodal/scmodal/impute'

workflow NEW_CELLS {
    take:
    sheet   // path: sample, modality, path
    model   // path: model/ folder of an integration
    options // map: impute, validate_files, outdir

    main:
    // One item for each row: [[id, modality], [file]]. A label_key is of no use here: nothing is labelled.
    SAMPLESHEET(sheet, model, options)
    EMBED(SAMPLESHEET.out.modalities.map { meta, files -> [meta.subMap('id', 'modality'), files, model, []] })

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

// Names of the modalities that a model has.
def modalitiesOf(model) {
    def description = model.resolve('model.json')
    if (!description.exists()) {
        error("--model ${model}: no model.json in it; give the model/ folder of an integration result")
    }
    return new groovy.json.JsonSlurper().parseText(description.text).modalities
}
