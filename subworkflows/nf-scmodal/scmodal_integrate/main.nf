/*
 * From files of two or more modalities to one latent space: PREPROCESS -> LINK -> INTEGRATE.
 */

include { SCMODAL_PREPROCESS as PREPROCESS } from '../../../modules/nf-scmodal/scmodal/preprocess'
include { SCMODAL_LINK as LINK             } from '../../../modules/nf-scmodal/scmodal/link'
include { SCMODAL_INTEGRATE as INTEGRATE   } from '../../../modules/nf-scmodal/scmodal/integrate'

workflow SCMODAL_INTEGRATE {
    take:
    modalities // [[id, modality, order, n_modalities, label_key, batch_key], [files]]; only id and modality are needed
    table      // path: the user's own links, or []
    genes      // path: BED or GTF, for chromatin, or []
    seeds      // list of integers

    main:
    PREPROCESS(modalities, table, genes)

    // One item for each sample, its modalities in the order of the chain:
    // [[id, modalities: [rna, protein], label_keys: [rna: 'celltype']], [rna.h5ad, protein.h5ad]].
    // Where the number of modalities is known, no sample waits for another.
    prepared = PREPROCESS.out.h5ad
        .map { meta, h5ad -> [meta.n_modalities ? groupKey(meta.id, meta.n_modalities) : meta.id, meta, h5ad] }
        .groupTuple()
        .map { _id, metas, h5ads -> sampleOf(metas, h5ads) }

    LINK(prepared, table)

    // One item for each sample and seed: [[id, modalities, label_keys, seed], [h5ads], links].
    INTEGRATE(
        prepared
            .join(LINK.out.links)
            .combine(channel.fromList(seeds))
            .map { meta, h5ads, links, seed -> [meta + [seed: seed], h5ads, links] }
    )

    // Plain names: `name = value` under `emit:` is lost by the strict parser of 25.04.0.
    links = LINK.out.links
    coverage = LINK.out.coverage
    run = INTEGRATE.out.run
    integrated = INTEGRATE.out.integrated
    embedding = INTEGRATE.out.embedding
    model = INTEGRATE.out.model
    metrics = INTEGRATE.out.metrics
    h5ad = INTEGRATE.out.h5ad
    obsm = INTEGRATE.out.obsm

    emit:
    prepared   // [[id, modalities, label_keys], [h5ads in the order of `modalities`]]
    links      // [[id, modalities, label_keys], links.tsv]
    coverage   // [[id, modalities, label_keys], coverage.tsv]
    run        // [[id, modalities, label_keys, seed], folder]; the next are files of it
    integrated // [[…, seed], integrated.h5mu]
    embedding  // [[…, seed], embedding.parquet]
    model      // [[…, seed], model/]
    metrics    // [[…, seed], metrics.json]
    h5ad       // [[…, seed], latent.h5ad], with ext.args '--anndata' for INTEGRATE
    obsm       // [[…, seed], X_scmodal.parquet], likewise
}

// One sample from its modalities: by `order`, else as their names sort (protein before rna).
def sampleOf(metas, h5ads) {
    def ordered = [metas, h5ads].transpose().sort { pair -> String.format('%06d %s', pair[0].order ?: 0, pair[0].modality) }
    def labelled = ordered.findAll { meta, _h5ad -> meta.label_key }
    return [
        [
            id: ordered[0][0].id,
            modalities: ordered.collect { meta, _h5ad -> meta.modality },
            label_keys: labelled.collectEntries { meta, _h5ad -> [meta.modality, meta.label_key] },
        ],
        ordered.collect { _meta, h5ad -> h5ad },
    ]
}
