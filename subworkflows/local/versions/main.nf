/*
 * One file that names every tool and its version.
 */

workflow VERSIONS {
    take:
    outdir // folder of the results

    main:
    channel.topic('versions')
        .map { process, tool, version -> "${process.tokenize(':').last()}:\n  ${tool}: ${version}\n" }
        .unique()
        .collectFile(name: 'versions.yml', storeDir: "${outdir}/pipeline_info", sort: true)
}
